package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	repairBegun = `{"id":"a1","running":true,"buckets":16,"compared":8,"equal":8,"progress":0.5,"brought":3,"seconds_left":90,"unequal":[],"silent":[]}`
	repairDone  = `{"id":"a1","buckets":16,"compared":16,"equal":16,"differed":4,"busy":1,"brought":7,"settled":2,"bytes":2048,"progress":1,"unequal":[],"silent":[]}`
	repairLeft  = `{"id":"a1","buckets":16,"compared":16,"equal":5,"differed":4,"failed":1,"progress":1,
"unequal":[{"why":"node n3 is away","buckets":11,"some":[0,1,2]}],"silent":[{"node":"n3","alive":false,"why":"it is away"}]}`
	repairQuiet = `{"id":"a1","buckets":16,"compared":16,"equal":16,"progress":1,"unequal":[],"silent":[]}`
)

// repairing is a node whose repair runs for three looks and then ends so.
func repairing(t *testing.T, end string) *fakeNode {
	return fake(t, func(path, _ string, before int) (int, string) {
		switch {
		case path == "POST /v1/repair", path == "GET /v1/repair" && before < 1:
			return 200, repairBegun
		case path == "GET /v1/repair" && before == 1:
			return 500, "an accident"
		case path == "GET /v1/repair":
			return 200, end
		case path == "GET /v1/nodes":
			return 200, `{}`
		}
		return 404, "no such page"
	})
}

func TestRepair(t *testing.T) {
	for _, test := range []struct {
		args, end string
		code      int
		sent      string
		out, err  []string
	}{
		{"", repairQuiet, 0, `POST /v1/repair {}`, []string{"16 of 16 buckets are equal", "none differed"}, nil},
		{"", repairDone, 0, `POST /v1/repair {}`, []string{"4 differed", "7 records brought, 2 keys settled by a round, 2.0 KiB", "1 of them were written to"}, []string{"50 %", "8 of 16 buckets, 3 records brought, 1m30s left"}},
		{"--bucket 0", repairQuiet, 0, `POST /v1/repair {"bucket":0}`, nil, nil},
		{"", repairLeft, 5, `POST /v1/repair {}`, []string{"NOT EQUAL: 11 buckets (0 1 2 …): node n3 is away", "FAILED: 1 times", "node n3 gave no account: it is away"}, []string{"11 of 16 buckets could not be found equal"}},
		{"--json", repairLeft, 5, `POST /v1/repair {}`, []string{`"equal": 5`}, nil},
	} {
		f := repairing(t, test.end)
		s := newStage()
		s.terminal = true
		if code := s.run(append([]string{"repair", "--http", f.at}, strings.Fields(test.args)...)...); code != test.code || f.asked(test.sent) != 1 {
			t.Errorf("%s: exit code %d: %q\n%s", test.args, code, f.sent, s.err.String())
		}
		has(t, "stdout", s.out.String(), test.out...)
		has(t, "stderr", s.err.String(), test.err...)
		if test.args == "--json" && !json.Valid([]byte(s.out.String())) {
			t.Errorf("not JSON: %s", s.out.String())
		}
	}
	for args, code := range map[string]int{"--bucket -1": 2, "--bucket x": 2, "17": 2} {
		f := repairing(t, repairQuiet)
		if got := newStage().run(append([]string{"repair", "--http", f.at}, strings.Fields(args)...)...); got != code || len(f.sent) > 0 {
			t.Errorf("%s: exit code %d, %q", args, got, f.sent)
		}
	}
	f := fake(t, func(path, _ string, _ int) (int, string) {
		if path == "GET /v1/nodes" {
			return 200, `{}`
		}
		return 409, "4 repairs are under way already"
	})
	if code := newStage().run("repair", "--http", f.at); code != 3 {
		t.Errorf("too many: exit code %d", code)
	}
}
