package main

import (
	"fmt"
	"strings"
)

// redraw replaces the lines of a terminal that it has written last; one that is empty
// only takes them away. Lines that are too long are cut off: else nobody would know how
// many they are.
func (o *outside) redraw(lines ...string) {
	if !o.terminal {
		return
	}
	up := ""
	if o.drawn > 1 {
		up = fmt.Sprintf("\x1b[%dA", o.drawn-1)
	}
	o.drawn = len(lines)
	o.complain("%s\r\x1b[J\x1b[?7l%s\x1b[?7h", up, strings.Join(lines, "\n"))
}
