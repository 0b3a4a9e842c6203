package jobs

import (
	"errors"
	"strings"
	"testing"

	"unkai"
	"unkai/internal/admin"
	"unkai/internal/core/topology"
)

// A new machine has come at the address of one that was lost: who is meant has to be
// said by id.
func TestAnAddressOfTwoNodes(t *testing.T) {
	top := topology.New(1, 16, 3, 2, 2, topology.Node{ID: 1, Weight: 1})
	for id := unkai.NodeID(2); id <= 4; id++ {
		var err error
		if top, err = top.Join(topology.Node{ID: id, Weight: 1}); err != nil {
			t.Fatal(err)
		}
	}
	o := New(Config{Nodes: company{peers: map[unkai.NodeID]string{2: "10.0.0.2:11011", 3: "10.0.0.2:11011", 4: "10.0.0.4:11011"}}})
	_, err := o.find(&top, "10.0.0.2:11011")
	if !errors.Is(err, admin.ErrBadRequest) || !strings.Contains(err.Error(), unkai.NodeID(2).String()+", "+unkai.NodeID(3).String()) {
		t.Error(err)
	}
	for name, want := range map[string]unkai.NodeID{"10.0.0.4:11011": 4, unkai.NodeID(3).String(): 3} {
		if id, err := o.find(&top, name); id != want || err != nil {
			t.Errorf("%s: %v %v", name, id, err)
		}
	}
	for _, name := range []string{"", "10.0.0.9:11011", "000"} {
		if id, err := o.find(&top, name); !errors.Is(err, admin.ErrBadRequest) {
			t.Errorf("%q: %v %v", name, id, err)
		}
	}
}
