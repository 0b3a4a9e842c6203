// Package quorum is the law of when replies are enough, or never will be, also
// while a replica set is being replaced by another.
package quorum

import "math/bits"

// Mask is a set of replicas: bit i stands for the i-th member of a list. A list
// has at most 64 members.
type Mask uint64

// First is the mask of the first n members.
func First(n int) Mask { return 1<<n - 1 }

// Has reports whether the i-th member is in m.
func (m Mask) Has(i int) bool { return m&(1<<i) != 0 }

// With is m and the i-th member.
func (m Mask) With(i int) Mask { return m | 1<<i }

// Count is how many members m has.
func (m Mask) Count() int { return bits.OnesCount64(uint64(m)) }

// Group is a replica set of which so many must agree. The zero Group needs
// nobody.
type Group struct {
	Members Mask
	Need    int
}

func (g Group) enough(yes Mask) bool { return (yes & g.Members).Count() >= g.Need }

func (g Group) never(no Mask) bool { return (g.Members &^ no).Count() < g.Need }

// Rule says whose agreement is enough: that of the present replica set and,
// while it is being replaced, of the joining one too.
type Rule struct{ Present, Joining Group }

// Enough reports whether those who said yes satisfy the rule.
func (r Rule) Enough(yes Mask) bool { return r.Present.enough(yes) && r.Joining.enough(yes) }

// Never reports whether the rule can no longer be satisfied once these have
// said no.
func (r Rule) Never(no Mask) bool { return r.Present.never(no) || r.Joining.never(no) }

// Members are all whose agreement can count.
func (r Rule) Members() Mask { return r.Present.Members | r.Joining.Members }
