package main

import (
	"strings"
	"testing"

	"unkai/internal/admin"
)

// What cannot be printed does not break a table.
func TestTablesQuote(t *testing.T) {
	n := &admin.Nodes{Nodes: []admin.Node{{ID: "01", Zone: "a\nb"}, {ID: "02", Zone: "Köln 1"}, {ID: "03", Zone: "\xff"}}}
	got := describeNodes(n)
	if strings.Count(got, "\n") != 6 || !strings.Contains(got, `"a\nb"  `) || !strings.Contains(got, " Köln 1  ") || !strings.Contains(got, `"\xff"  `) {
		t.Errorf("%s", got)
	}
	if got := describe(&admin.Status{Zone: "a\nb"}); !strings.Contains(got, `"a\nb"`+"\n") {
		t.Errorf("%s", got)
	}
}
