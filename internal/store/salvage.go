package store

// MayBe is what a damaged record may have been, for the counts and for nothing
// else. When a single bit in front of the value was flipped, or when all damage
// is behind, it is exact.
func MayBe(key, b []byte) (k Kind, valueLen int) {
	try := append([]byte(nil), b...)
	for i := range 8 * min(len(try), MaxRecordOverhead-recordSum) {
		try[i/8] ^= 1 << (i % 8)
		if r, err := DecodeRecord(key, try); err == nil {
			return r.Kind(), len(r.Item.Value)
		}
		try[i/8] ^= 1 << (i % 8)
	}
	// Then it is what it says.
	if len(b) < recordFixed+recordSum {
		return KindItem, 0
	}
	r, rest := decodeFixed(b[:len(b)-recordSum])
	r.Promise = max(r.Ballot, 1)
	if k = r.Kind(); k != KindItem {
		return k, 0
	}
	return k, max(0, len(rest)-optionalLen(b[1]))
}
