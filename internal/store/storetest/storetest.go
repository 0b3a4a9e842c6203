// Package storetest is the suite that every store.Engine must pass: the
// contract of package store as tests.
package storetest

import (
	"testing"

	"unkai/internal/store"
)

// Buckets is how many buckets the engine under test must have at least.
const Buckets = 16

// Options of an engine to be tested.
type Options struct {
	// Limit on what the engine may take, in bytes; 0: none. An engine whose
	// limit is not a number of bytes skips the test from open, with a reason.
	Limit int64
}

// Open makes an empty engine with at least Buckets buckets. The suite closes it.
type Open func(t *testing.T, opts Options) store.Engine

// Run tests everything of the contract that one life of an engine can show.
func Run(t *testing.T, open func(t *testing.T, opts Options) store.Engine) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Absent", testAbsent},
		{"Fields", testFields},
		{"Keys", testKeys},
		{"Values", testValues},
		{"Conditional", testConditional},
		{"Copies", testCopies},
		{"Collisions", testCollisions},
		{"SeparateBuckets", testSeparateBuckets},
		{"Access", testAccess},
		{"Unsynced", testUnsynced},
		{"Order", testOrder},
		{"WriteNew", testWriteNew},
		{"WriteNewRaces", testWriteNewRaces},
		{"WriteNewThenWrite", testWriteNewThenWrite},
		{"Counters", testCounters},
		{"Races", testRaces},
		{"Scan", testScan},
		{"ScanRanges", testScanRanges},
		{"ScanHoldsNoLock", testScanHoldsNoLock},
		{"ScanWhileWritten", testScanWhileWritten},
		{"Snapshot", testSnapshot},
		{"SnapshotOfOneMoment", testSnapshotOfOneMoment},
		{"Drop", testDrop},
		{"Purge", testPurge},
		{"Model", testModel},
		{"Head", testHead},
		{"Promises", testPromises},
		{"Promised", testPromised},
		{"Invalid", testInvalid},
		{"HealWell", testHealWell},
		{"Full", testFull},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

// begin opens an engine that is closed when the test ends.
func begin(t *testing.T, open Open, opts Options) store.Engine {
	t.Helper()
	e := open(t, opts)
	t.Cleanup(func() { shut(t, e) })
	return e
}

func shut(t testing.TB, e store.Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
