package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// door is a side door that answers one page, whatever is asked of it.
func door(t *testing.T, path string, code int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body)) // the command under test sees what came
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const nodesPage = `{"cluster":"c1","epoch":7,"quorum":{"n":3,"r":2,"w":2},"buckets":1024,"moving":12,"survives":1,"nodes":[
{"id":"00000000000000aa","peer":"10.0.0.1:11011","zone":"z1","weight":1,"state":"attached","manager":true,"alive":true,"epoch":7,"replicas":1024,"present":1000,"joining":20,"leaving":4,"ideal":1250.5,"coordinates":342,"items":5,"bytes":2048,"connections":3},
{"id":"00000000000000bb","peer":"10.0.0.2:11011","weight":2,"state":"attached","alive":false,"problem":"no answer","link":{"up":false}},
{"id":"00000000000000cc","state":"attached","alive":true,"link":{"up":true,"round_trip_seconds":0.0012345,"open":17}},
{"id":"00000000000000dd","state":"leaving","alive":true,"connections":1},
{"id":"00000000000000ee","state":"leaving","alive":true,"connections":24}]}`

const explainPage = `{"key":"cart:7","bucket":5,"epoch":7,"hash":"ff","coordinator":"00000000000000aa","held":[
{"node":"00000000000000aa","exists":true,"ballot":"9.1","promise":"1033.1","epoch":7,"cas":589825,"expiry":1700000000000,"size":5,"checksum":"c9420e5d"},
{"node":"00000000000000bb","tombstone":true,"ballot":"8.2","promise":"8.2","epoch":7,"checksum":"00000000"},
{"node":"00000000000000cc","error":"no connection"}]}`

func TestNodes(t *testing.T) {
	s := newStage()
	if code := s.run("nodes", "--http", door(t, "/v1/nodes", 200, nodesPage)); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "cluster c1, epoch 7, N:R:W 3:2:2", "12 of them on their way", "any one more node may fail",
		"00000000000000aa", "z1", "342", "2.0 KiB", "manager", "attached, away", "no answer", "1000+20-4", "80 %", "1.23ms", "17", "down",
		"holds nothing any more, still has 1 client\n", "holds nothing any more, still has 24 clients")
	s = newStage()
	if code := s.run("nodes", "--json", "--http", door(t, "/v1/nodes", 200, `{"unavailable":3,"buckets":16}`)); code != 4 {
		t.Errorf("exit code %d with unavailable buckets", code)
	}
	has(t, "stderr", s.err.String(), "3 of 16 buckets cannot be read and written now")
	s = newStage()
	if code := s.run("nodes", "--http", door(t, "/v1/nodes", 500, "oops")); code != 1 {
		t.Errorf("exit code %d", code)
	}
	has(t, "stderr", s.err.String(), "500")
}

func TestLocateAndExplain(t *testing.T) {
	s := newStage()
	if code := s.run("explain", "cart:7", "--http", door(t, "/v1/explain", 200, explainPage)); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "cart:7: bucket 5", "an item", "9.1", "2023-11-14T22:13:20Z", "c9420e5d", "a tombstone", "DIFFERS", "no connection")
	s = newStage()
	if code := s.run("locate", "a b", "c", "--http", door(t, "/v1/locate", 200, `{"key":"a b","bucket":4,"replicas":["n1","n2"],"joining":["n2","n3"],"coordinator":"n1"}`)); code != 0 {
		t.Errorf("exit code %d: %s", code, s.err.String())
	}
	has(t, "stdout", s.out.String(), "a b", "4", "n1 n2 → n2 n3", "COORDINATOR")
	s = newStage()
	if code := s.run("locate"); code != 2 {
		t.Errorf("without a key: exit code %d", code)
	}
}

func TestVerifyRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{{"verify", "--clients", "0"}, {"verify", "--duration", "0s"}, {"verify", "x"}} {
		if code := newStage().run(args...); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	s := newStage()
	if code := s.run("verify", "--endpoints", "127.0.0.1:1", "--duration", "50ms"); code != 1 {
		t.Errorf("nobody there: exit code %d", code)
	}
	has(t, "stderr", s.err.String(), "nothing was answered")
}
