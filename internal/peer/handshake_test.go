package peer

import (
	"errors"
	"strings"
	"testing"
)

// Who is turned away, and who is meant, is told apart from either side.
func TestAnotherNodeIsThere(t *testing.T) {
	caller, listener := hello{self: 0xc, want: 0xe}, hello{self: 0x1}
	for said, err := range map[string]error{
		"it is 0000000000000001":                                  explain(wrongNode, &caller, &listener),
		"it wants 000000000000000e, and this is 0000000000000001": explain(wrongNode, &listener, &caller),
	} {
		if !errors.Is(err, errWrongNode) || !strings.HasSuffix(err.Error(), said) {
			t.Errorf("%v, want %q", err, said)
		}
	}
}
