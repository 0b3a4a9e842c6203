package node

import (
	"encoding/json"
	"strings"
	"testing"

	"unkai/internal/core/topology"
)

// A node joins for itself, and changes no other one's weight.
func TestNobodyJoinsForAnother(t *testing.T) {
	question, err := json.Marshal(control{Join: &join{Node: topology.Node{ID: 2, Weight: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&Node{id: 1}).serveControl(3, question); err == nil || !strings.Contains(err.Error(), "in the name of another") {
		t.Error(err)
	}
	if _, err := (&Node{id: 1}).serveControl(2, question); err == nil || !strings.Contains(err.Error(), "not a member itself yet") {
		t.Error(err)
	}
}
