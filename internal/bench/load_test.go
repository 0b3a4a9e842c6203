package bench

import (
	"strings"
	"testing"
)

func TestDefaultsAreValid(t *testing.T) {
	l := Defaults()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		change func(*Load)
		want   string
	}{
		{func(l *Load) { l.Endpoints = nil }, "no endpoint"},
		{func(l *Load) { l.Connections = 0 }, "connections is 0, want 1 to 20000"},
		{func(l *Load) { l.Connections = MaxConnections + 1 }, "connections is 20001"},
		{func(l *Load) { l.Pipeline = MaxPipeline + 1 }, "pipeline is 1025"},
		{func(l *Load) { l.Keys = 0 }, "keys is 0"},
		{func(l *Load) { l.MinValue = -1 }, "smallest value is -1"},
		{func(l *Load) { l.MinValue, l.MaxValue = 10, 9 }, "largest value is 9, want 10 to"},
		{func(l *Load) { l.Workers = -1 }, "workers is -1"},
		{func(l *Load) { l.MaxValue, l.Pipeline = MaxValue, 2 }, "is more than 4294967296 bytes"},
		{func(l *Load) { l.Protocol = "binary" }, `protocol "binary" is neither text nor meta`},
		{func(l *Load) { l.Distribution = "normal" }, `distribution "normal" is none of uniform, zipf, sequential`},
		{func(l *Load) { l.Prefix = "a b" }, `prefix "a b"`},
		{func(l *Load) { l.Prefix = strings.Repeat("x", 201) }, "want at most 200 bytes"},
		{func(l *Load) { l.Reads = 100.5 }, "reads are 100.5 %"},
		{func(l *Load) { l.Rate = -1 }, "rate is -1"},
		{func(l *Load) { l.WarmUp = -1 }, "cannot be negative"},
		{func(l *Load) { l.Duration = 0 }, "neither a duration nor a number of operations"},
		{func(l *Load) { l.Timeout = 0 }, "timeout must be positive"},
		{func(l *Load) { l.Keys, l.Workers = 0, -1 }, "keys is 0, want 1 to 1000000000; workers is -1"},
	} {
		l := Defaults()
		c.change(&l)
		if err := l.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
