package main

import (
	"regexp"
	"strings"
	"testing"
)

const foreseenPage = `{"cluster":"c","epoch":9,"quorum":{"n":3,"r":2,"w":2},"buckets":64,"moving":3,"survives":1,"auto_replace_seconds":90,
"job":{"id":4,"kind":"attach","nodes":["0e"],"state":"running"},
"nodes":[
{"id":"0a","peer":"h1:1","state":"attached","alive":true,"manager":true,"present":40,"ideal":48,"link":null},
{"id":"0b","peer":"h2:1","state":"attached","alive":false,"manager":true,"problem":"no connection to that node","prospect":{"node":"0b","do":"replace","by":"0c","seconds":75}},
{"id":"0c","peer":"h2:1","state":"recognised","alive":true,"prospect":{"node":"0c","do":"attach","why":"node 0b is away"}},
{"id":"0d","peer":"h4:1","state":"recognised","alive":true,"manual":true},
{"id":"0e","peer":"h5:1","state":"attached","alive":true,"present":4,"joining":44,"ideal":48}]}`

// Each row says all there is to say of a node, apart from each other.
func TestNodesSayWhatIsToBeKnown(t *testing.T) {
	f := fake(t, func(string, string, int) (int, string) { return 200, foreseenPage })
	s := newStage()
	if code := s.run("nodes", "--http", f.at); code != 0 {
		t.Fatal(code, s.err.String())
	}
	rows := map[string]string{}
	for line := range strings.SplitSeq(s.out.String(), "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			rows[f[0]] = strings.Join(f, " ")
		}
	}
	for id, want := range map[string]string{
		"NODE": `QUEUE NOTE$`,
		"0a":   ` - manager$`,
		"0b":   ` attached, away .* manager; no connection to that node; to be replaced by node 0c by itself in 1m15s$`,
		"0c":   ` recognised .* not attached by itself: node 0b is away; holds nothing, at the address of 0b: if that one's disk is lost, unkai replace 0b 0c$`,
		"0d":   ` recognised, waits for unkai attach .*-$`,
		"0e":   ` attaching 0 4\+44 8 % `,
	} {
		if !regexp.MustCompile(want).MatchString(rows[id]) {
			t.Errorf("%s: %q, want %q", id, rows[id], want)
		}
	}
}

func TestAutoReplaceCommand(t *testing.T) {
	for args, test := range map[string]struct {
		code       int
		sent, says string
	}{
		"30m":      {0, `"do":"auto-replace","throttle":0,"auto_replace_seconds":1800}`, "replaced by themselves after 1m30s"},
		"off":      {0, `"do":"auto-replace","throttle":0,"auto_replace_seconds":0}`, "replaced by themselves after 1m30s"},
		"for ever": {2, "", "neither a duration"},
		"":         {2, "", "arg"},
	} {
		f := fake(t, func(string, string, int) (int, string) { return 200, `{"epoch":3,"auto_replace_seconds":90}` })
		s := newStage()
		words := []string{"auto-replace", "--http", f.at}
		if args != "" {
			words = append(words, args)
		}
		code := s.run(words...)
		if code != test.code || test.sent != "" && (len(f.sent) != 1 || !strings.Contains(f.sent[0], test.sent)) {
			t.Errorf("%s: %d %q", args, code, f.sent)
		}
		has(t, args, s.out.String()+s.err.String(), test.says)
	}
}
