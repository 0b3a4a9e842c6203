package topology

import (
	"errors"
	"fmt"
	"slices"

	"unkai"
)

// ErrUndecidable says that after a change nothing could be decided any more, not
// even to take it back.
var ErrUndecidable = errors.New("too few of the nodes that would decide are alive")

// managers is how many decide in a cluster of so many attached nodes.
func managers(nodes int) int {
	switch {
	case nodes >= 5:
		return 5
	case nodes >= 3:
		return 3
	}
	return 1
}

// Elect is the topology with other managers in the place of those that gone
// names, and as many as its size wants.
func (t *Topology) Elect(gone ...unkai.NodeID) Topology {
	next := t.next()
	next.elect(gone)
	return next
}

// elect keeps the managers that are attached and not gone, and adds nodes of the
// zones that have the fewest, by id. It keeps those who are gone when nobody
// can take their place, and adds others who are as long as they are outvoted.
func (t *Topology) elect(gone []unkai.NodeID) {
	nodes := t.Attached()
	want := managers(len(nodes))
	var chosen []unkai.NodeID
	zones := map[string]int{}
	take := func(n Node) {
		chosen = append(chosen, n.ID)
		zones[n.Zone]++
	}
	fill := func(want int, fits func(Node) bool) {
		for len(chosen) < want {
			best := -1
			for i, n := range nodes {
				if fits(n) && !slices.Contains(chosen, n.ID) && (best < 0 || zones[n.Zone] < zones[nodes[best].Zone]) {
					best = i
				}
			}
			if best < 0 {
				return
			}
			take(nodes[best])
		}
	}
	manages := func(n Node) bool { return slices.Contains(t.Managers, n.ID) }
	alive := func(n Node) bool { return !slices.Contains(gone, n.ID) }
	fill(want, func(n Node) bool { return manages(n) && alive(n) })
	fill(want, alive)
	able := len(chosen)
	fill(want, manages)
	fill(min(want, 2*able-1), func(Node) bool { return true }) // it may come back
	slices.Sort(chosen)
	t.Managers = chosen
}

// reelect elects those who follow these managers, none that is gone if others can.
// It refuses when these were too few to decide anything.
func (t *Topology) reelect(before, gone []unkai.NodeID) error {
	t.Managers = slices.Clone(before)
	t.elect(gone)
	alive := 0
	for _, id := range t.Managers {
		if !slices.Contains(gone, id) {
			alive++
		}
	}
	if 2*alive <= len(t.Managers) {
		return fmt.Errorf("topology: %d of %d managers: %w", alive, len(t.Managers), ErrUndecidable)
	}
	return nil
}
