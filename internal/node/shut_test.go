package node

import (
	"strings"
	"testing"
)

// A node that comes to serve just when it refuses somebody has a reason for that, too.
func TestARefusalHasAReason(t *testing.T) {
	n := new(Node)
	n.door.n = n
	if err := n.door.shut(); !strings.Contains(err.Error(), "(starting)") {
		t.Error(err)
	}
}
