package memory

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"unkai"
	"unkai/internal/store"
)

// A checkpoint is a directory with one file. Integers are little-endian.
//
//	16     "unkai memory 1\n\x00"
//	4      number of buckets
//	then any number of
//	  1    'f': a floor       'r': a record
//	  2    bucket             bucket
//	  8    ballot             hash
//	  1                       length of the key
//	  4                       length of the record
//	  …                       key, record in the format of package store
//	1      'e': the end
//	8      number of records
//	4      crc32c of everything before
const (
	checkpointFile  = "records"
	checkpointMagic = "unkai memory 1\n\x00"

	frameFloor  = 'f'
	frameRecord = 'r'
	frameEnd    = 'e'
)

// ErrCheckpoint says that the file is not a whole and undamaged checkpoint of this engine.
var ErrCheckpoint = errors.New("checkpoint cannot be used")

// Checkpoint implements store.Engine: all buckets as they are at one moment.
// Restore reads it.
func (e *Engine) Checkpoint(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("memory: checkpoint: %w", err)
	}
	if err := e.writeCheckpoint(dir); err != nil {
		return errors.Join(fmt.Errorf("memory: checkpoint: %w", err), os.RemoveAll(dir))
	}
	return nil
}

func (e *Engine) writeCheckpoint(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, checkpointFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	out := &checkpointWriter{w: bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)}
	err = e.dump(out)
	if err == nil {
		err = out.end(sum)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// freezeAll keeps everything as it is now.
func (e *Engine) freezeAll() (parts []frozen, floors []unkai.Ballot) {
	for i := range e.shards {
		e.shards[i].mu.Lock()
	}
	for i := range e.parts {
		parts = append(parts, e.shardOf(i).freeze(&e.parts[i]))
	}
	for i := range e.floors {
		floors = append(floors, unkai.Ballot(e.floors[i].Load()))
	}
	for i := range e.shards {
		e.shards[i].mu.Unlock()
	}
	return parts, floors
}

// dump writes the header, the floors and the records.
func (e *Engine) dump(out *checkpointWriter) error {
	parts, floors := e.freezeAll()
	thawed := 0
	defer func() {
		for i := thawed; i < len(parts); i++ {
			parts[i].thaw()
		}
	}()
	if err := out.header(len(floors)); err != nil {
		return err
	}
	for b, floor := range floors {
		if floor == 0 {
			continue
		}
		if err := out.floor(unkai.Bucket(b), floor); err != nil {
			return err
		}
	}
	var sc scanner
	for i := range parts {
		b := unkai.Bucket(i / e.perBucket)
		var err error
		parts[i].scan(b, &sc, func(en store.Entry, bad error) bool {
			// Left out, a damaged record would be absent in the copy.
			if err = bad; err == nil {
				err = out.record(b, en)
			}
			return err == nil
		})
		if err != nil {
			return fmt.Errorf("bucket %d: %w", b, err)
		}
		parts[i].thaw()
		thawed = i + 1
	}
	return nil
}

// checkpointWriter writes the frames of a checkpoint.
type checkpointWriter struct {
	w   *bufio.Writer
	buf []byte
	n   uint64 // records
}

func (c *checkpointWriter) flush() error {
	_, err := c.w.Write(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *checkpointWriter) header(buckets int) error {
	c.buf = append(c.buf[:0], checkpointMagic...)
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(buckets))
	return c.flush()
}

func (c *checkpointWriter) floor(b unkai.Bucket, at unkai.Ballot) error {
	c.buf = append(c.buf, frameFloor)
	c.buf = binary.LittleEndian.AppendUint16(c.buf, uint16(b))
	c.buf = binary.LittleEndian.AppendUint64(c.buf, uint64(at))
	return c.flush()
}

func (c *checkpointWriter) record(b unkai.Bucket, en store.Entry) error {
	le := binary.LittleEndian
	c.buf = append(c.buf, frameRecord)
	c.buf = le.AppendUint16(c.buf, uint16(b))
	c.buf = le.AppendUint64(c.buf, en.Hash)
	c.buf = append(c.buf, byte(len(en.Key)))
	c.buf = le.AppendUint32(c.buf, uint32(store.EncodedLen(&en.Record)))
	c.buf = append(c.buf, en.Key...)
	c.buf = store.AppendRecord(c.buf, en.Key, &en.Record)
	c.n++
	return c.flush()
}

// end writes the last frame, with the sum of all that was written.
func (c *checkpointWriter) end(sum hash.Hash32) error {
	c.buf = append(c.buf, frameEnd)
	c.buf = binary.LittleEndian.AppendUint64(c.buf, c.n)
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.w.Flush(); err != nil {
		return err
	}
	c.buf = binary.LittleEndian.AppendUint32(c.buf, sum.Sum32())
	if err := c.flush(); err != nil {
		return err
	}
	return c.w.Flush()
}

// Restore opens an engine with the records of a checkpoint. The error is
// ErrCheckpoint, wrapped with what is wrong, if the file is damaged or of
// another kind.
func Restore(cfg Config, dir string) (*Engine, error) {
	f, err := os.Open(filepath.Join(dir, checkpointFile))
	if err != nil {
		return nil, fmt.Errorf("memory: restore: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	e, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	in := &checkpointReader{r: bufio.NewReaderSize(f, 1<<20)}
	if err := in.load(e, cfg.Buckets); err != nil {
		return nil, errors.Join(fmt.Errorf("memory: restore of %s: %w", f.Name(), err), e.Close())
	}
	for i := range e.shards {
		e.shards[i].writes = 0
	}
	return e, nil
}

// checkpointReader reads the frames of a checkpoint.
type checkpointReader struct {
	r   *bufio.Reader
	sum uint32
	buf []byte
	n   uint64 // records
}

// next reads n bytes. They are valid until the next call.
func (c *checkpointReader) next(n int) ([]byte, error) {
	c.buf = slices.Grow(c.buf[:0], n)[:n]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it is cut short", ErrCheckpoint)
		}
		return nil, err
	}
	c.sum = crc32.Update(c.sum, castagnoli, c.buf)
	return c.buf, nil
}

func (c *checkpointReader) load(e *Engine, buckets int) error {
	b, err := c.next(len(checkpointMagic) + 4)
	if err != nil {
		return err
	}
	if string(b[:len(checkpointMagic)]) != checkpointMagic {
		return fmt.Errorf("%w: it does not begin like one of this version", ErrCheckpoint)
	}
	if n := binary.LittleEndian.Uint32(b[len(checkpointMagic):]); int(n) != buckets {
		return fmt.Errorf("%w: it has %d buckets, and the engine %d", ErrCheckpoint, n, buckets)
	}
	for {
		kind, err := c.next(1)
		if err != nil {
			return err
		}
		switch kind[0] {
		case frameFloor:
			err = c.floor(e)
		case frameRecord:
			err = c.record(e)
		case frameEnd:
			return c.end()
		default:
			err = fmt.Errorf("%w: a frame of kind %d is not known", ErrCheckpoint, kind[0])
		}
		if err != nil {
			return err
		}
	}
}

// bucket reads the number of a bucket.
func (c *checkpointReader) bucket(e *Engine, b []byte) (unkai.Bucket, error) {
	n := binary.LittleEndian.Uint16(b)
	if int(n) >= len(e.floors) {
		return 0, fmt.Errorf("%w: there is no bucket %d", ErrCheckpoint, n)
	}
	return unkai.Bucket(n), nil
}

func (c *checkpointReader) floor(e *Engine) error {
	f, err := c.next(2 + 8)
	if err != nil {
		return err
	}
	b, err := c.bucket(e, f)
	if err != nil {
		return err
	}
	e.floors[b].Store(binary.LittleEndian.Uint64(f[2:]))
	return nil
}

func (c *checkpointReader) record(e *Engine) error {
	f, err := c.next(2 + 8 + 1 + 4)
	if err != nil {
		return err
	}
	b, err := c.bucket(e, f)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	hash, keyLen, n := le.Uint64(f[2:]), int(f[10]), int(le.Uint32(f[11:]))
	if n > unkai.MaxValueLen+store.MaxRecordOverhead {
		return fmt.Errorf("%w: a record of %d bytes is too long", ErrCheckpoint, n)
	}
	if f, err = c.next(keyLen + n); err != nil {
		return err
	}
	key := f[:keyLen]
	r, err := store.DecodeRecord(key, f[keyLen:])
	if err != nil {
		return fmt.Errorf("%w: key %q: %w", ErrCheckpoint, key, err)
	}
	c.n++
	if err = e.write(&store.Write{Bucket: b, Hash: hash, Key: key, Record: r}); errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("key %q comes twice: %w", key, err)
	}
	return err
}

// end compares the count and the sum.
func (c *checkpointReader) end() error {
	f, err := c.next(8)
	if err != nil {
		return err
	}
	if n := binary.LittleEndian.Uint64(f); n != c.n {
		return fmt.Errorf("%w: it has %d records, and says %d", ErrCheckpoint, c.n, n)
	}
	want := c.sum
	if f, err = c.next(4); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(f); got != want {
		return fmt.Errorf("%w: its checksum is %08x, want %08x", ErrCheckpoint, got, want)
	}
	if _, err := c.r.ReadByte(); err == nil {
		return fmt.Errorf("%w: something follows its end", ErrCheckpoint)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
