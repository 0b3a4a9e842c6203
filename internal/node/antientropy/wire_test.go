package antientropy

import (
	"testing"

	"unkai"
	"unkai/internal/core/ring"
	"unkai/internal/node/replica"
	"unkai/internal/store"
)

// A record with a ballot that no node can come to is not taken from another one.
func TestRecordsOutOfReach(t *testing.T) {
	space, key := ring.NewSpace(7, 16), []byte("key")
	hash := space.Hash(key)
	for ballot, believed := range map[unkai.Ballot]bool{
		unkai.MakeBallot(1, 1):                    true,
		unkai.MakeBallot(replica.HighestFloor, 1): true,
		unkai.MakeBallot(1<<48-1, 1):              false,
	} {
		in := reader{b: appendEntry(nil, &entry{hash: hash, key: key, record: store.Record{Ballot: ballot, Tombstone: true, Epoch: 1}})}
		if _, err := in.entry(space, space.Bucket(hash)); (err == nil) != believed {
			t.Errorf("ballot %v: %v", ballot, err)
		}
		in = reader{b: appendBrought(u32(nil, 1), &store.Entry{Key: key, Record: store.Record{Ballot: ballot, Tombstone: true, Epoch: 1}})}
		if _, err := in.brought(nil, space, space.Bucket(hash)); (err == nil) != believed {
			t.Errorf("brought at ballot %v: %v", ballot, err)
		}
	}
}
