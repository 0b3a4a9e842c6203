package steward

import "unkai"

// weights is the most that some node has said to hold of each bucket, in bytes.
type weights map[unkai.Bucket]int64

// note hears what one node holds; less than none: it has not counted.
func (w weights) note(b unkai.Bucket, bytes int64) {
	if old, ok := w[b]; bytes >= 0 && (!ok || bytes > old) {
		w[b] = bytes
	}
}

// of is less than none where nobody has counted.
func (w weights) of(b unkai.Bucket) int64 {
	if bytes, ok := w[b]; ok {
		return bytes
	}
	return -1
}
