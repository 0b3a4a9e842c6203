package disk

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"unkai"
)

// What pebble sees. Records of one bucket are one range of keys, in the order
// of their hashes; keys whose hashes collide stay apart, as the key itself
// ends the pebble key.
//
//	1 | name                                what the store knows of itself
//	2 | bucket, 2 B | hash, 8 B | key       a record
//
// Integers in keys are big-endian, so that their order is that of the bytes.
const (
	metaSpace   = 1
	recordSpace = 2

	recordKeyFixed = 1 + 2 + 8
)

var (
	formatKey = metaKey("format")
	countsKey = metaKey("counts")
	markKey   = metaKey("mark")
)

func metaKey(name string) []byte { return append([]byte{metaSpace}, name...) }

// floorKey holds the floor of a bucket; floorSpace is before all of them.
func floorKey(b unkai.Bucket) []byte { return binary.BigEndian.AppendUint16(floorSpace(), uint16(b)) }

func floorSpace() []byte { return metaKey("floor") }

// after is the end of the range of all keys that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func appendRecordKey(dst []byte, b unkai.Bucket, hash uint64, key []byte) []byte {
	dst = append(dst, recordSpace)
	dst = binary.BigEndian.AppendUint16(dst, uint16(b))
	dst = binary.BigEndian.AppendUint64(dst, hash)
	return append(dst, key...)
}

// splitRecordKey takes a pebble key of a record apart; key aliases p.
func splitRecordKey(p []byte) (hash uint64, key []byte, ok bool) {
	if len(p) < recordKeyFixed || p[0] != recordSpace {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(p[3:]), p[recordKeyFixed:], true
}

// bucketRange is the range of the records of a bucket.
func bucketRange(b unkai.Bucket) (from, to []byte) {
	from = binary.BigEndian.AppendUint16([]byte{recordSpace}, uint16(b))
	return from, after(from)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errMeta = errors.New("its checksum is wrong")

// seal ends what the store writes of itself with a checksum over key and value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, sum)
}

// unseal gives the value back, if it is the one that was sealed for key.
func unseal(key, sealed []byte) ([]byte, error) {
	n := len(sealed) - 4
	if n < 0 {
		return nil, errMeta
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[:n])
	if binary.LittleEndian.Uint32(sealed[n:]) != sum {
		return nil, errMeta
	}
	return sealed[:n], nil
}
