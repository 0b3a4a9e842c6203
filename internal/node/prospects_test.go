package node

import (
	"testing"
	"testing/synctest"
	"time"

	"unkai/internal/admin"
)

// Only what the steward of the moment has said of late is passed on.
func TestProspectsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p prospects
		p.told(2, []admin.Prospect{{Node: "x", Do: "replace", Seconds: 9}})
		time.Sleep(4 * time.Second)
		if got := p.of(2); len(got) != 1 || got[0].Seconds != 5 {
			t.Errorf("%+v", got)
		}
		if got := p.of(1); got != nil {
			t.Errorf("of another: %+v", got)
		}
		time.Sleep(foretoldFor)
		if got := p.of(2); got != nil {
			t.Errorf("long after: %+v", got)
		}
	})
}
