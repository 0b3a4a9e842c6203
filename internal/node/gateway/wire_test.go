package gateway

import (
	"errors"
	"reflect"
	"testing"

	"unkai"
	"unkai/internal/node/coordinator"
	"unkai/internal/store"
)

func everyOp() []unkai.Op {
	return []unkai.Op{
		{Key: []byte("k")},
		{Kind: unkai.Get, Key: []byte("k"), Meta: true, NoValue: true, NoBump: true, Retouch: true, Expiry: 5, Recache: 9, RecacheLast: true, Vivify: true, VivifyExpiry: -3},
		{Kind: unkai.Set, Key: []byte("k"), Value: []byte("v"), Flags: 1 << 31, Compare: true, CAS: ^uint64(0), NewCAS: 7, Invalidate: true},
		{Kind: unkai.Increment, Key: []byte("k"), Delta: ^uint64(0), Initial: 8},
		{Kind: unkai.Delete, Key: []byte("k"), DropValue: true, Expiry: -1},
	}
}

func TestOperationsComeThrough(t *testing.T) {
	msg := []byte{wireVersion}
	for _, op := range everyOp() {
		msg = appendOp(msg, &op)
	}
	var b unkai.Batch
	if err := readOps(msg, &b); err != nil || !reflect.DeepEqual(b.Ops, everyOp()) {
		t.Errorf("%v\n%+v", err, b.Ops)
	}
	// Every field of an Op is carried: one that is forgotten would be lost here.
	op := unkai.Op{}
	v := reflect.ValueOf(&op).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.SetBytes([]byte{byte(i)})
		case reflect.Int64:
			f.SetInt(int64(i))
		default:
			f.SetUint(uint64(i) % uint64(unkai.Kinds))
		}
	}
	b.Reset()
	if err := readOps(appendOp([]byte{wireVersion}, &op), &b); err != nil || !reflect.DeepEqual(b.Ops[0], op) {
		t.Errorf("%v\nsent %+v\n got %+v", err, op, b.Ops)
	}
}

func TestResultsComeThrough(t *testing.T) {
	for _, sent := range []unkai.Result{
		{Status: unkai.Miss},
		{Status: unkai.OK, Item: unkai.Item{Value: []byte("v"), Flags: 1, Expiry: 2, CAS: 3, Stale: true, Won: true}, Size: 4, ExpiryBefore: -5,
			Number: 6, Created: true, Won: true, WonBefore: true, Fetched: true, Accessed: 7},
	} {
		r := cursor{b: appendResult(nil, &sent)}
		var got unkai.Result
		if r.result(&got); r.short || len(r.b) > 0 || !reflect.DeepEqual(sent, got) {
			t.Errorf("sent %+v\n got %+v", sent, got)
		}
	}
	for _, err := range []error{errors.New("no"), store.ErrFull, coordinator.ErrMoved, coordinator.ErrElsewhere, coordinator.ErrAway} {
		sent := unkai.Result{Status: unkai.Failed, Err: err}
		r := cursor{b: appendResult(nil, &sent)}
		var got unkai.Result
		r.result(&got)
		for _, target := range []error{store.ErrFull, coordinator.ErrMoved, coordinator.ErrElsewhere, coordinator.ErrAway} {
			if errors.Is(got.Err, target) != errors.Is(err, target) {
				t.Errorf("%v became %v", err, got.Err)
			}
		}
		var text interface{ MemcacheText() string }
		if errors.As(got.Err, &text) != errors.Is(err, store.ErrFull) {
			t.Errorf("%v: what clients are told", err)
		}
	}
}

func FuzzOperations(f *testing.F) {
	for _, op := range everyOp() {
		f.Add(appendOp([]byte{wireVersion}, &op))
	}
	f.Add(appendResult(nil, &unkai.Result{Status: unkai.OK, Item: unkai.Item{Value: []byte("v")}}))
	f.Fuzz(func(t *testing.T, msg []byte) {
		var b unkai.Batch
		if readOps(msg, &b) == nil {
			again := []byte{wireVersion}
			for i := range b.Ops {
				again = appendOp(again, &b.Ops[i])
			}
			var c unkai.Batch
			if err := readOps(again, &c); err != nil || !reflect.DeepEqual(b.Ops, c.Ops) {
				t.Errorf("%+v became %+v (%v)", b.Ops, c.Ops, err)
			}
		}
		r := cursor{b: msg}
		var res unkai.Result
		r.result(&res)
	})
}
