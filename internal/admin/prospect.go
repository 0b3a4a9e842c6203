package admin

import (
	"fmt"
	"time"
)

// Prospect is what becomes of a node though nobody asks for it, and when, or why not.
type Prospect struct {
	Node string `json:"node"`
	// Do is "attach", of a node that has joined, or "replace", of one that does not
	// answer.
	Do string `json:"do"`
	// By is the node that takes the place of one that is replaced; "": all others do.
	By string `json:"by,omitempty"`
	// Seconds until it is so; 0: at once, or not as long as something is as Why says.
	Seconds float64 `json:"seconds,omitempty"`
	Why     string  `json:"why,omitempty"`
}

// Say is the same in plain words, to be said of the node; of none it says nothing.
func (p *Prospect) Say() string {
	if p == nil {
		return ""
	}
	what := "attached"
	switch {
	case p.Do == "replace" && p.By != "":
		what = "replaced by node " + p.By
	case p.Do == "replace":
		what = "replaced"
	}
	switch {
	case p.Why != "":
		return fmt.Sprintf("not %s by itself: %s", what, p.Why)
	case p.Seconds > 0:
		return fmt.Sprintf("to be %s by itself in %v", what, max(time.Second, time.Duration(p.Seconds*float64(time.Second)).Round(time.Second)))
	}
	return fmt.Sprintf("to be %s by itself now", what)
}
