package node

import (
	"path/filepath"
	"testing"

	"unkai"
)

// A node that starts again at another address is found there, also when its clock
// was set back meanwhile.
func TestBookOfAClockSetBack(t *testing.T) {
	file := atomicFile(filepath.Join(t.TempDir(), bookFile))
	var last address
	for _, life := range []struct {
		addr string
		now  int64
	}{{"a:1", 1000}, {"b:1", 10}, {"c:1", 5}} {
		b, err := openBook(file, func(unkai.NodeID, string) {})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.tellOwn(7, life.addr, life.now); err != nil {
			t.Fatal(err)
		}
		own := b.all()[unkai.NodeID(7).String()]
		if own.Peer != life.addr || own.Told <= last.Told {
			t.Errorf("%+v after %+v", own, last)
		}
		last = own
	}
}
