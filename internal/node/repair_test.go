package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"unkai/internal/admin"
	"unkai/internal/node"
)

// repaired asks a node for a repair and others how it goes on, until it has ended.
func repaired(t *testing.T, w admin.RepairWish, all ...*node.Node) (r admin.RepairRun) {
	t.Helper()
	if code, text := post(t, all[0], "/v1/repair", w, &r); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	id := r.ID
	for at, until := 0, time.Now().Add(patience); r.Running; at++ {
		if time.Now().After(until) {
			t.Fatalf("it does not end: %+v", r)
		}
		time.Sleep(20 * time.Millisecond)
		resp, err := http.Get("http://" + all[at%len(all)].HTTP().String() + "/v1/repair?id=" + id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // it was read to its end
		r = admin.RepairRun{}
		if err := json.Unmarshal(b, &r); err != nil || r.ID != id {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return r
}

// Whichever node is asked, the account is that of the whole cluster.
func TestRepair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := cluster(t, 2, plain)
	third := built(t, func(c *node.Config) { c.Data, c.Store = dir, node.Disk }, all[0].Peer())
	settled(t, 3, append(all, third)...)
	dial(t, all[0]).fill(0, 300)
	r := repaired(t, admin.RepairWish{}, all[0], all[1], third)
	if r.Equal != 64 || r.Compared != 64 || r.Progress != 1 || len(r.Silent) != 0 || len(r.Unequal) != 0 {
		t.Errorf("%+v", r)
	}
	one := 63
	if r = repaired(t, admin.RepairWish{Bucket: &one}, all...); r.Buckets != 1 || r.Equal != 1 {
		t.Errorf("one bucket: %+v", r)
	}
	id := idOf(t, third)
	stop(t, third)
	for _, n := range all {
		for nodes(t, n).Survives != 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	r = repaired(t, admin.RepairWish{}, all...)
	if r.Equal != 0 || r.Compared != 64 || len(r.Unequal) != 1 || r.Unequal[0].Buckets != 64 || r.Unequal[0].Why != "node "+id+" is away" ||
		len(r.Unequal[0].Some) == 0 || len(r.Silent) != 1 || r.Silent[0].Node != id || r.Silent[0].Alive {
		t.Errorf("while one is away: %+v", r)
	}
	dial(t, all[0]).fill(0, 600)
	third = built(t, func(c *node.Config) { c.Data, c.Store = dir, node.Disk }, all[0].Peer())
	settled(t, 3, append(all, third)...)
	// It has to be counted first; that is waited for. Those who were asked before it
	// came back know nothing of this repair.
	if r = repaired(t, admin.RepairWish{}, third, all[0]); r.Equal != 64 {
		t.Errorf("when it is back: %+v", r)
	}
}

func TestRepairThatCannotBe(t *testing.T) {
	t.Parallel()
	n := built(t, plain)
	for _, b := range []int{-1, 64} {
		if code, text := post(t, n, "/v1/repair", admin.RepairWish{Bucket: &b}, nil); code != 400 || !strings.Contains(text, "buckets 0 to 63") {
			t.Errorf("bucket %d: %d %s", b, code, text)
		}
	}
	for path, want := range map[string]string{"/v1/repair": `"id": ""`, "/v1/repair?id=xyz": "not the id", "/v1/repair?id=17": "remembers a repair"} {
		resp, err := http.Get("http://" + n.HTTP().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read to its end
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, b)
		}
	}
	for range 5 { // the fifth comes before the first has ended
		code, text := post(t, n, "/v1/repair", admin.RepairWish{}, nil)
		if code == 200 {
			continue
		}
		if code != 409 || !strings.Contains(text, "under way") {
			t.Errorf("%d %s", code, text)
		}
		return
	}
	t.Error("any number of repairs is taken")
}
