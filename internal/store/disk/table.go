package disk

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// tableFile is a table that a flush or a compaction writes. Such work is all
// processor, for tenths of a second, and replicas of the same writes fall to it
// at the same moment: whatever else the process does would wait behind it at
// every step. So it rests as long as it works, unless it lags.
type tableFile struct {
	guardFile
	since time.Time // when it went to work
	owed  time.Duration
}

const (
	leastRest = time.Millisecond // what timers can do
	// mostWork is how much of the time between two writes counts as work: more
	// of it was waiting.
	mostWork = 10 * time.Millisecond
)

func (t *tableFile) Write(p []byte) (int, error) {
	n, err := t.guardFile.Write(p)
	if t.g.hurry.Load() {
		t.since, t.owed = time.Time{}, 0
		return n, err
	}
	now := time.Now()
	if !t.since.IsZero() {
		t.owed += min(now.Sub(t.since), mostWork)
	}
	if t.owed >= leastRest {
		time.Sleep(t.owed)
		t.owed, now = 0, time.Now()
	}
	t.since = now
	return n, err
}

// lags says whether flushes or compactions have more to do than what came last:
// a memtable waits behind the one being flushed, or flushed ones have piled up.
func lags(m *pebble.Metrics) bool {
	const pile = 4
	return m.MemTable.Count > 2 || m.Levels[0].Sublevels > pile
}

// crowded says whether there are so many small tables that there should be no more: who reads
// would have to open one each time. What goes through the log and a memtable makes few large
// ones of them.
func crowded(m *pebble.Metrics, spared int64) bool {
	var n, bytes int64
	for i := range m.Levels {
		n += m.Levels[i].TablesCount
		bytes += m.Levels[i].TablesSize
	}
	return n > smallTables+spared+bytes/tableSize
}
