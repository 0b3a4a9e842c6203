package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"unkai"
)

func TestLog(t *testing.T) {
	const spelt = ` node=00000000000000ff from=10.0.0.7:11011`
	const inJSON = `,"node":"00000000000000ff","from":"10.0.0.7:11011"`
	for _, test := range []struct {
		logging
		terminal bool
		want     string // of the entry
	}{
		{logging{"info", "auto"}, true, `level=INFO msg=hello took=1.5s` + spelt + "\n"},
		{logging{"info", "auto"}, false, `"level":"INFO","msg":"hello","took":"1.5s"` + inJSON + "}\n"},
		{logging{"debug", "text"}, false, `level=INFO msg=hello took=1.5s` + spelt + "\n"},
		{logging{"info", "json"}, true, `"level":"INFO","msg":"hello","took":"1.5s"` + inJSON + "}\n"},
		{logging{"warn", "json"}, true, ""},
	} {
		var b bytes.Buffer
		log, err := test.open(&b, test.terminal)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello", "took", 1500*time.Millisecond, "node", unkai.NodeID(255), "from", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 11011})
		if got := b.String(); !strings.HasSuffix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%+v on a terminal %v: %q, want %q", test.logging, test.terminal, got, test.want)
		}
	}
	if _, err := (logging{level: "loud"}).open(nil, false); err == nil {
		t.Error("there is a level loud")
	}
}
