package replica

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"unkai"
	"unkai/internal/store"
)

func calls() []*Call {
	return []*Call{
		{Epoch: 3, Bucket: 9, Hash: 77, Key: []byte("k"), Access: 5},
		{Epoch: 3, Bucket: 9, Hash: 77, Key: []byte("k"), NoValue: true},
		{Epoch: 3, Bucket: 9, Hash: 77, Key: bytes.Repeat([]byte("k"), unkai.MaxKeyLen), Ballot: 8, Next: 9},
		{Epoch: 3, Bucket: 65535, Hash: 77, Key: []byte("k"), Ballot: 8, Next: 9, Fetched: true, Accessed: 12,
			Item: unkai.Item{Value: []byte("value"), Flags: 4, Expiry: -1, CAS: 99, Stale: true, Won: true}},
	}
}

func TestQuestionsComeThrough(t *testing.T) {
	for i, want := range calls() {
		for _, a := range []asked{askRead, askPrepare, askAccept} {
			if (want.Ballot == 0) != (a == askRead) {
				continue
			}
			sent := want
			if a == askPrepare {
				sent = &Call{Epoch: want.Epoch, Bucket: want.Bucket, Hash: want.Hash, Key: want.Key, Ballot: want.Ballot}
			}
			got := new(Call)
			b := appendQuestion(nil, a, sent)
			if back, err := readQuestion(b, got); err != nil || back != a || !reflect.DeepEqual(sent, got) {
				t.Errorf("%d: %v, asked %d\nsent %+v\n got %+v", i, err, back, sent, got)
			}
			for n := range b {
				if _, err := readQuestion(b[:n], new(Call)); err == nil && a != askAccept {
					t.Errorf("%d: %d bytes of %d are a question", i, n, len(b))
				}
			}
		}
	}
}

func TestAnswersComeThrough(t *testing.T) {
	found := store.Found{Fetched: true, Accessed: 5, Size: 5, Record: store.Record{
		Ballot: 7, Promise: 8, Epoch: 2, Item: unkai.Item{Value: []byte("value"), Flags: 4, Expiry: 6, CAS: 7, Won: true},
	}}
	gone := store.Found{Record: store.Record{Ballot: 7, Promise: 7, Epoch: 2, Tombstone: true}}
	for _, sent := range []*Call{
		{Status: OK, Seen: 8, Found: found},
		{Status: OK, Seen: 8, Found: gone},
		{Status: OK, Seen: 8},
		{Status: Refused, Seen: 88},
		{Status: Fenced, Epoch: 12},
		{Status: Failed, Err: errors.New("no")},
		{Status: Unknown, Err: store.ErrBroken},
		{Status: Failed, Err: store.ErrFull},
	} {
		got := new(Call)
		b := appendAnswer(nil, askRead, sent)
		if err := readAnswer(b, askRead, got); err != nil {
			t.Errorf("%+v: %v", sent, err)
			continue
		}
		if got.Status != sent.Status || got.Seen != sent.Seen || got.Epoch != sent.Epoch || !reflect.DeepEqual(got.Found, sent.Found) {
			t.Errorf("sent %+v\n got %+v", sent, got)
		}
		if (got.Err == nil) != (sent.Err == nil) || sent.Err != nil && got.Err.Error() != sent.Err.Error() ||
			errors.Is(got.Err, store.ErrFull) != errors.Is(sent.Err, store.ErrFull) {
			t.Errorf("sent %v, got %v", sent.Err, got.Err)
		}
	}
}

// A ballot that no node can come to is not taken from another one, in a question or in an
// answer, and nothing of it stays in a call that is used again.
func TestBallotsOutOfReach(t *testing.T) {
	low, last := unkai.MakeBallot(1<<46, 1), unkai.MakeBallot(highestBallot, 1)
	for _, high := range []unkai.Ballot{unkai.MakeBallot(highestBallot+1, 1), ^unkai.Ballot(0)} {
		used := new(Call)
		for _, q := range []*struct {
			asked asked
			call  Call
		}{
			{askPrepare, Call{Key: []byte("k"), Ballot: high}},
			{askAccept, Call{Key: []byte("k"), Ballot: high, Next: high}},
			{askAccept, Call{Key: []byte("k"), Ballot: low, Next: high}},
		} {
			if _, err := readQuestion(appendQuestion(nil, q.asked, &q.call), used); !errors.Is(err, errTooHigh) || used.Ballot != 0 || used.Next != 0 {
				t.Errorf("asked %d for %v, %v: %v", q.asked, q.call.Ballot, q.call.Next, err)
			}
		}
		for _, a := range []*Call{
			{Status: Refused, Seen: high},
			{Status: OK, Found: store.Found{Record: store.Record{Ballot: low, Promise: high}}},
			{Status: OK, Found: store.Found{Record: store.Record{Ballot: high, Promise: low}}},
			{Status: OK, Forgot: high},
		} {
			if err := readAnswer(appendAnswer(nil, askPrepare, a), askPrepare, used); !errors.Is(err, errTooHigh) || used.Seen != 0 || used.Forgot != 0 {
				t.Errorf("answer %+v, %v, %v: %v", a.Found.Record, a.Seen, a.Forgot, err)
			}
		}
	}
	q := Call{Key: []byte("k"), Ballot: last, Next: last}
	if _, err := readQuestion(appendQuestion(nil, askAccept, &q), new(Call)); err != nil {
		t.Error(err)
	}
}

func FuzzMessages(f *testing.F) {
	for _, c := range calls() {
		for _, a := range []asked{askRead, askPrepare, askAccept} {
			f.Add(appendQuestion(nil, a, c))
			c.Status = OK
			f.Add(appendAnswer(nil, a, c))
		}
	}
	// A read with every mark: some mean nothing there, and are not taken for more.
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x01k"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := new(Call)
		if a, err := readQuestion(b, c); err == nil {
			again := new(Call)
			if _, err := readQuestion(appendQuestion(nil, a, c), again); err != nil || !reflect.DeepEqual(c, again) {
				t.Errorf("%+v became %+v (%v)", c, again, err)
			}
		}
		for _, a := range []asked{askRead, askPrepare, askAccept} {
			c := new(Call)
			if err := readAnswer(b, a, c); err == nil && (c.Status < OK || c.Status > Unknown) {
				t.Errorf("status %d", c.Status)
			}
		}
	})
}
