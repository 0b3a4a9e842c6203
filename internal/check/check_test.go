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
	doubt, exists := unkai.Result{Status: unkai.InDoubt}, unkai.Result{Status: unkai.Exists}
	compared := func(v string, unique uint64) unkai.Op {
		op := set(v)
		op.Compare, op.CAS = true, unique
		return op
	}
	cas := compared("c", 1)
	late := func(v string, unique uint64) unkai.Op {
		op := compared(v, unique)
		op.Invalidate = true
		return op
	}
	anyway := compared("d", 0)
	anyway.Kind = unkai.Append
	metaGet := get
	metaGet.Meta = true
	renews := found("c", 12)
	renews.Won = true
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
		// The unique of what is in doubt is not known, and may be compared with.
		"in doubt, and compared with in doubt": {true, []event{{op: set("a"), res: doubt}, {op: compared("b", 9), res: doubt}, {op: get, res: found("b", 10)}}},
		"or not compared with":                 {true, []event{{op: set("a"), res: doubt}, {op: compared("b", 9), res: doubt}, {op: get, res: found("a", 9)}}},
		"and a second time":                    {true, []event{{op: set("a"), res: doubt}, {op: compared("b", 9), res: doubt}, {op: compared("c", 11), res: doubt}, {op: get, res: found("c", 12)}}},
		"in doubt, on another unique":          {false, []event{{op: set("a"), res: ok(1)}, {op: compared("b", 9), res: doubt}, {op: get, res: found("b", 10)}}},
		"compared twice with one in doubt":     {false, []event{{op: set("a"), res: doubt}, {op: compared("b", 9), res: ok(10)}, {op: compared("c", 9), res: ok(12)}}},
		"found before it is compared":          {false, []event{{op: set("a"), res: doubt}, {op: get, res: found("a", 8)}, {op: compared("b", 9), res: doubt}, {op: get, res: found("b", 10)}}},
		"late for one in doubt":                {true, []event{{op: set("a"), res: doubt}, {op: late("c", 5), res: ok(12)}, {op: metaGet, res: renews}}},
		"not late for one in doubt":            {true, []event{{op: set("a"), res: doubt}, {op: late("c", 5), res: ok(12)}, {op: metaGet, res: found("c", 12)}}},
		"late for a known one":                 {false, []event{{op: set("a"), res: ok(5)}, {op: late("c", 5), res: ok(12)}, {op: metaGet, res: renews}}},
		"above one in doubt":                   {true, []event{{op: set("a"), res: doubt}, {op: late("c", 99), res: exists}, {op: get, res: found("a", 9)}}},
		"appended whatever the unique":         {true, []event{{op: set("a"), res: doubt}, {op: anyway, res: ok(12)}, {op: get, res: found("ad", 12)}}},
		"another than the one in doubt":        {true, []event{{op: set("a"), res: doubt}, {op: compared("b", 9), res: exists}, {op: get, res: found("a", 8)}}},
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
