package quorum_test

import (
	"testing"

	"unkai/internal/core/quorum"
)

// Every pair of quorums that must meet does, in every strong setting, and a rule
// is hopeless exactly when no further reply could satisfy it.
func TestEveryReplyPattern(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for w := n/2 + 1; w <= n; w++ {
			all := quorum.First(n)
			write := quorum.Rule{Present: quorum.Group{Members: all, Need: w}}
			prepare := quorum.Rule{Present: quorum.Group{Members: all, Need: n - w + 1}}
			for a := quorum.Mask(0); a <= all; a++ {
				if write.Enough(a) != !write.Never(all&^a) {
					t.Fatalf("n=%d w=%d: %b is neither enough nor hopeless, or both", n, w, a)
				}
				for b := quorum.Mask(0); b <= all; b++ {
					if write.Enough(a) && prepare.Enough(b) && a&b == 0 {
						t.Fatalf("n=%d w=%d: a write at %b is not seen by a prepare at %b", n, w, a, b)
					}
					if write.Enough(a) && write.Enough(b) && a&b == 0 {
						t.Fatalf("n=%d w=%d: writes at %b and %b do not meet", n, w, a, b)
					}
				}
			}
		}
	}
}

func TestBothSetsMustAgree(t *testing.T) {
	// Members a b c d; a b c are being replaced by b c d.
	r := quorum.Rule{
		Present: quorum.Group{Members: 0b0111, Need: 2},
		Joining: quorum.Group{Members: 0b1110, Need: 2},
	}
	for _, c := range []struct {
		yes    quorum.Mask
		enough bool
	}{{0b0011, false}, {0b0110, true}, {0b1001, false}, {0b1011, true}, {0b1010, false}, {0b1111, true}, {0, false}} {
		if got := r.Enough(c.yes); got != c.enough {
			t.Errorf("%04b: enough is %v", c.yes, got)
		}
	}
	if !r.Never(0b1100) || r.Never(0b1000) || !r.Never(0b0011) {
		t.Error("never is wrong")
	}
	if r.Members() != 0b1111 {
		t.Errorf("members are %b", r.Members())
	}
}
