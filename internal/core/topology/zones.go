package topology

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"unkai"
)

// MaxZone is how many bytes the name of a zone has at most.
const MaxZone = 64

// CheckZone says what is wrong with the name of a zone that somebody asks for. People
// read it in tables. A topology may hold any name, so that one is not in the way of its
// own correction.
func CheckZone(name string) error {
	switch {
	case len(name) > MaxZone:
		return fmt.Errorf("%d bytes are too long a name for a zone: at most %d", len(name), MaxZone)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%q is no name for a zone: only characters that can be printed in a line, in UTF-8", name)
	}
	return nil
}

// ZoneSpan is how many whole zones may fail, whichever they are, before some bucket cannot
// be read and written: before a change, while it runs and afterwards.
type ZoneSpan struct{ Before, During, After int }

// zoneSpan is nil where no two zones have names.
func zoneSpan(before, during, after *Topology, loads []Load) *ZoneSpan {
	alive := func(id unkai.NodeID) bool {
		return !slices.ContainsFunc(loads, func(l Load) bool { return l.Node == id && !l.Alive })
	}
	named := 0
	span := func(t *Topology) int {
		h := t.Health(alive)
		named = max(named, len(h.Zones))
		return min(h.Writes.Zones, h.Reads.Zones)
	}
	out := ZoneSpan{span(before), span(during), span(after)}
	if named < 2 {
		return nil
	}
	return &out
}

// uneven is how far, as a part of its ideal, a node's share may be from it.
const uneven = 0.05

// Uneven are the nodes whose share will be further from what their weight asks for than it
// should be: because replicas have to be in different zones, or not all is where it belongs.
func (p *Plan) Uneven() (out []Share) {
	for _, s := range p.Nodes {
		if far := math.Abs(float64(s.After) - s.Ideal); far > 1 && far > uneven*s.Ideal {
			out = append(out, s)
		}
	}
	return out
}
