package check_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"unkai"
	"unkai/internal/check"
)

func set(v string) unkai.Op {
	return unkai.Op{Kind: unkai.Set, Key: []byte("k"), Value: []byte(v)}
}

func found(v string, cas uint64) unkai.Result {
	return unkai.Result{Status: unkai.OK, Item: unkai.Item{Value: []byte(v), CAS: cas}}
}

func ok(cas uint64) unkai.Result {
	return unkai.Result{Status: unkai.OK, Item: unkai.Item{CAS: cas}}
}

var get = unkai.Op{Key: []byte("k")}

// event is an operation in a script: what overlaps is between "begin" and "end".
type event struct {
	op  unkai.Op
	res unkai.Result
	// until is the index of the event before whose beginning it ends; 0: at once.
	until int
}

func TestJudge(t *testing.T) {
	miss := unkai.Result{Status: unkai.Miss}
	cas := set("c")
	cas.Compare, cas.CAS = true, 1
	for name, c := range map[string]struct {
		want   bool
		events []event
	}{
		"one after another":              {true, []event{{op: set("a"), res: ok(1)}, {op: get, res: found("a", 1)}}},
		"a lost write":                   {false, []event{{op: set("a"), res: ok(1)}, {op: get, res: miss}}},
		"a stale read":                   {false, []event{{op: set("a"), res: ok(1)}, {op: set("b"), res: ok(2)}, {op: get, res: found("a", 1)}}},
		"a read beside a write sees it":  {true, []event{{op: set("a"), res: ok(1), until: 2}, {op: get, res: found("a", 1)}, {op: get, res: found("a", 1)}}},
		"or does not":                    {true, []event{{op: set("a"), res: ok(1), until: 2}, {op: get, res: miss}, {op: get, res: found("a", 1)}}},
		"but not first so and then so":   {false, []event{{op: set("a"), res: ok(1), until: 3}, {op: get, res: found("a", 1)}, {op: get, res: miss}}},
		"a wrong unique":                 {false, []event{{op: set("a"), res: ok(1)}, {op: get, res: found("a", 2)}}},
		"cas":                            {true, []event{{op: set("a"), res: ok(1)}, {op: cas, res: ok(2)}, {op: get, res: found("c", 2)}}},
		"a false EXISTS":                 {false, []event{{op: set("a"), res: ok(1)}, {op: cas, res: unkai.Result{Status: unkai.Exists}}}},
		"two cas on one unique":          {false, []event{{op: set("a"), res: ok(1)}, {op: cas, res: ok(2)}, {op: cas, res: ok(3)}}},
		"in doubt and applied":           {true, []event{{op: set("a"), res: ok(1)}, {op: set("b"), res: unkai.Result{Status: unkai.InDoubt}}, {op: get, res: found("b", 9)}}},
		"in doubt and not applied":       {true, []event{{op: set("a"), res: ok(1)}, {op: set("b"), res: unkai.Result{Status: unkai.InDoubt}}, {op: get, res: found("a", 1)}}},
		"in doubt, applied, and undone":  {false, []event{{op: set("a"), res: ok(1)}, {op: set("b"), res: unkai.Result{Status: unkai.InDoubt}}, {op: get, res: found("b", 9)}, {op: get, res: found("a", 1)}}},
		"applied though it was said not": {false, []event{{op: set("a"), res: unkai.Result{Status: unkai.Failed}}, {op: get, res: found("a", 1)}}},
		"counted once":                   {true, []event{{op: unkai.Op{Kind: unkai.Increment, Key: []byte("k"), Delta: 1, Vivify: true, Initial: 1}, res: unkai.Result{Status: unkai.OK, Number: 1, Item: unkai.Item{CAS: 3}}}, {op: get, res: found("1", 3)}}},
		"counted twice for one in doubt": {false, []event{
			{op: set("1"), res: ok(1)},
			{op: unkai.Op{Kind: unkai.Increment, Key: []byte("k"), Delta: 1}, res: unkai.Result{Status: unkai.InDoubt}},
			{op: get, res: found("3", 9)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var h check.History
			ends := map[int][]func(){}
			for i, e := range c.events {
				for _, end := range ends[i] {
					end()
				}
				end := h.Begin(i, e.op)
				if e.until == 0 {
					end(e.res)
				} else {
					ends[e.until] = append(ends[e.until], func() { end(e.res) })
				}
			}
			for _, end := range ends[len(c.events)] {
				end()
			}
			v := h.Judge(time.Minute)
			if v.OK != c.want || v.Undecided {
				t.Errorf("ok %v, undecided %v", v.OK, v.Undecided)
			}
			var page bytes.Buffer
			if err := v.Draw(&page); err != nil || !strings.Contains(page.String(), "<html") {
				t.Errorf("no picture: %v", err)
			}
		})
	}
}
