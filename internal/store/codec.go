package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"tlsverdict/internal/mtasts"
)

// A record, all versions:
//
//	version   1 octet
//	next try  8 octets, big-endian nanoseconds since 1970, sign flipped for order
//	fields    see appendFields
//	checksum  4 octets, CRC-32C of the domain and all before
//
// The time of the next try stands outside the fields so that the key in the index
// can be found whatever else is wrong with a record.
const (
	version1   = 1
	headerSize = 1 + 8
	sumSize    = 4
	// maxFailures bounds a counter that only people read.
	maxFailures = 1 << 30
)

var (
	// errVersion: the record was written by another version of this program. It
	// is ignored: the policy will be fetched again.
	errVersion = errors.New("store: record of an unknown version")
	// errRecord: the record is damaged. It is ignored.
	errRecord = errors.New("store: damaged record")
)

// encode returns the record of a policy.
func encode(c mtasts.Cached) []byte {
	b := make([]byte, headerSize, headerSize+128+len(c.ID)+len(c.FailedID)+len(c.LastFailure)+len(c.Policy.Text()))
	b[0] = version1
	putTime(b[1:], c.NextTry)
	b = binary.AppendVarint(b, nanos(c.Fetched))
	b = binary.AppendVarint(b, nanos(c.Used))
	b = binary.AppendVarint(b, nanos(c.FailedAt))
	b = binary.AppendUvarint(b, uint64(min(max(c.Failures, 0), maxFailures)))
	for _, s := range []string{c.ID, c.FailedID, c.LastFailure, c.Policy.Text()} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint32(b, checksum(c.Domain, b))
}

// decode reads the record of a domain; errors wrap errVersion or errRecord.
func decode(domain string, b []byte) (mtasts.Cached, error) {
	if len(b) == 0 {
		return mtasts.Cached{}, fmt.Errorf("%w: it is empty", errRecord)
	}
	if b[0] != version1 {
		return mtasts.Cached{}, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	if len(b) < headerSize+sumSize {
		return mtasts.Cached{}, fmt.Errorf("%w: only %d octets", errRecord, len(b))
	}
	body, sum := b[:len(b)-sumSize], binary.BigEndian.Uint32(b[len(b)-sumSize:])
	if sum != checksum(domain, body) {
		return mtasts.Cached{}, fmt.Errorf("%w: wrong checksum", errRecord)
	}
	r := reader{rest: body[headerSize:]}
	c := mtasts.Cached{Domain: domain, NextTry: fromNanos(getTime(b[1:]))}
	c.Fetched, c.Used, c.FailedAt = r.time(), r.time(), r.time()
	c.Failures = int(min(r.uvarint(), maxFailures))
	c.ID, c.FailedID, c.LastFailure = string(r.octets()), string(r.octets()), string(r.octets())
	text := r.octets()
	if r.bad || len(r.rest) != 0 {
		return mtasts.Cached{}, fmt.Errorf("%w: its fields do not fill it", errRecord)
	}
	policy, err := mtasts.ParsePolicy(text)
	if err != nil {
		return mtasts.Cached{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	c.Policy = policy
	return c, nil
}

// reader takes fields off the front of a record. After the first mistake it
// returns zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	return v * r.take(n)
}

func (r *reader) time() time.Time {
	v, n := binary.Varint(r.rest)
	return fromNanos(v * int64(r.take(n)))
}

// take moves past n octets that a varint was read from, and returns 1; or 0 when
// there was none.
func (r *reader) take(n int) uint64 {
	if r.bad || n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return 1
}

func (r *reader) octets() []byte {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func checksum(domain string, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum([]byte(domain), table), table, b)
}

// nanos returns a time as nanoseconds since 1970; 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

const signBit = 1 << 63

func putTime(b []byte, t time.Time) { binary.BigEndian.PutUint64(b, uint64(nanos(t))^signBit) }

func getTime(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ signBit) }

// dueKey returns the index key of a record, nil for what is too short to be one.
func dueKey(domain string, record []byte) []byte {
	if len(record) < headerSize {
		return nil
	}
	key := make([]byte, 0, 8+len(domain))
	return append(append(key, record[1:headerSize]...), domain...)
}

// splitDue returns what an index key says.
func splitDue(key []byte) (next int64, domain string) {
	if len(key) <= 8 {
		return 0, ""
	}
	return getTime(key), string(key[8:])
}
