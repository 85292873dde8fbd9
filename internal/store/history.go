package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"tlsverdict/internal/history"
	"tlsverdict/internal/verdict"
)

// All of history is in memory, and two buckets are its copy: "changes" by number, 8 octets
// big-endian, and "verdicts" by destination.
//
// A record, all versions:
//
//	version   1 octet
//	fields    see encodeChange, encodeState
//	checksum  4 octets, CRC-32C of "change:" or "verdict:", the key, and all before
//
// One that cannot be read is dropped: no mail depends on it.

const (
	// maxChange bounds a record that is written, in octets.
	maxChange = 1024
	// maxWord bounds a name in it.
	maxWord = 64
)

func changesBucket() []byte { return []byte("changes") }

func verdictsBucket() []byte { return []byte("verdicts") }

// historyDelay is how long last verdicts may wait for others to be written with: while a
// cache fills there are many, and none is worth a transaction of its own.
const historyDelay = 10 * time.Second

// KeepHistory sets how many records of history are kept; 0 is none, and drops what there
// is. A store that was opened keeps as many as a history.Book can.
func (s *Store) KeepHistory(records int) {
	s.book.SetLimit(records, time.Now())
	s.historyChanged()
}

// Note takes a verdict for the history, and returns the change that it is, or nil. It waits
// for no disk. A change is written at once, a last verdict within ten seconds, or at the
// next Sync or Close.
func (s *Store) Note(o history.Observation) *history.Change {
	c, write := s.book.Note(o)
	switch {
	case !write:
	case c != nil || s.path == "":
		s.historyChanged()
	case s.lazy.CompareAndSwap(false, true):
		time.AfterFunc(historyDelay, func() {
			s.lazy.Store(false)
			s.historyChanged()
		})
	}
	return c
}

// Changes returns records of history, latest first.
func (s *Store) Changes(f history.Filter) []history.Change { return s.book.Changes(f) }

// States returns the last verdicts on a domain or host.
func (s *Store) States(name string) []history.State { return s.book.States(name) }

// HistoryStats returns counters and sizes of the history.
func (s *Store) HistoryStats() history.Stats { return s.book.Stats() }

// historyChanged has the writer write what is new.
func (s *Store) historyChanged() {
	if s.path == "" {
		if s.book.Crowded() {
			s.book.Trim(time.Now())
		}
		s.book.Discard()
		return
	}
	if s.book.Waiting() == 0 {
		return
	}
	s.mu.Lock()
	s.seq++
	s.mu.Unlock()
	notify(s.wake)
}

// writeHistory applies a batch.
func (b buckets) writeHistory(batch history.Batch) error {
	for _, seq := range slices.Sorted(maps.Keys(batch.Changes)) {
		key := changeKey(seq)
		var err error
		if c := batch.Changes[seq]; c != nil {
			err = b.changes.Put(key, encodeChange(c))
		} else {
			err = b.changes.Delete(key)
		}
		if err != nil {
			return err
		}
	}
	for _, dest := range slices.Sorted(maps.Keys(batch.States)) {
		var err error
		if state := batch.States[dest]; state != nil {
			err = b.verdicts.Put([]byte(dest), encodeState(state))
		} else {
			err = b.verdicts.Delete([]byte(dest))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadHistory reads a file's history beside what is in memory, which is newer.
func (s *Store) loadHistory(f *file) error {
	var found historyRecords
	err := f.view(func(b buckets) error { return b.eachHistory(forwards(), &found) })
	if err != nil {
		return err
	}
	var changes []history.Change
	var states []history.State
	for key, value := range found.changes {
		c, err := decodeChange([]byte(key), value)
		if err != nil {
			s.unreadableHistory(err)
			continue
		}
		changes = append(changes, c)
	}
	for dest, value := range found.states {
		state, err := decodeState(dest, value)
		if err != nil {
			s.unreadableHistory(err)
			continue
		}
		states = append(states, state)
	}
	s.book.Load(changes, states)
	s.historyChanged()
	return nil
}

// unreadableHistory counts a record that cannot be read, and says it of the first.
func (s *Store) unreadableHistory(err error) {
	if s.historyLost.Add(1) == 1 {
		s.log.Error("store: a record of the history cannot be read; what it said is lost", "path", s.path, "error", err)
	}
}

// historyRecords are what a file has, by key.
type historyRecords struct{ changes, states map[string][]byte }

// eachHistory collects records.
func (b buckets) eachHistory(d direction, into *historyRecords) error {
	err := each(b.changes, d, 2*history.MaxRecords, &into.changes)
	return cmp.Or(err, each(b.verdicts, d, 2*history.MaxKnown, &into.states))
}

// each collects what is in a bucket, most records at most.
func each(b *bbolt.Bucket, d direction, most int, into *map[string][]byte) error {
	if *into == nil {
		*into = make(map[string][]byte)
	}
	if b == nil {
		return nil // a file of before there was one
	}
	var last []byte
	c := b.Cursor()
	for k, v := d.first(c); k != nil && len(*into) < most; k, v = d.next(c) {
		if last != nil && bytes.Compare(k, last) != d.order {
			// A tree that leads back into itself would be walked for ever.
			return fmt.Errorf("%w: history is not in order", ErrDamaged)
		}
		last = bytes.Clone(k)
		(*into)[string(k)] = bytes.Clone(v)
	}
	return nil
}

// salvageHistory copies the history that can be reached in a damaged file to a new one.
func salvageHistory(from, to *file) (int, error) {
	var found historyRecords
	for _, d := range []direction{forwards(), backwards()} {
		for _, read := range []func(buckets) error{
			func(b buckets) error { return each(b.changes, d, 2*history.MaxRecords, &found.changes) },
			func(b buckets) error { return each(b.verdicts, d, 2*history.MaxKnown, &found.states) },
		} {
			// What is found before the damage is kept.
			_ = from.view(read)
		}
	}
	return len(found.changes) + len(found.states), to.update(func(b buckets) error {
		for _, part := range []struct {
			bucket *bbolt.Bucket
			found  map[string][]byte
		}{{b.changes, found.changes}, {b.verdicts, found.states}} {
			for _, key := range slices.Sorted(maps.Keys(part.found)) {
				if err := part.bucket.Put([]byte(key), part.found[key]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func changeKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// encodeChange returns the record of a change. It is never longer than maxChange: what
// does not fit is cut, the reasons first.
func encodeChange(c *history.Change) []byte {
	b := []byte{version1, 0}
	if c.Downgrade {
		b[1] = 1
	}
	for _, t := range []time.Time{c.Time, c.Until, c.Waited} {
		b = binary.AppendVarint(b, nanos(t))
	}
	b = appendStep(appendStep(b, c.Before), c.After)
	b = appendWord(b, string(c.Cause), maxWord)
	b = appendWord(b, c.Dest, maxChange/2)
	var codes []string
	for i, room := len(c.Codes)-1, maxChange-len(b)-sumSize-3; i >= 0; i-- {
		if room -= len(c.Codes[i]) + 1; room < 0 {
			break
		}
		codes = append(codes, string(c.Codes[i]))
	}
	slices.Reverse(codes)
	b = appendWord(b, strings.Join(codes, " "), maxChange)
	return binary.BigEndian.AppendUint32(b, checksum("change:"+string(changeKey(c.Seq)), b))
}

// decodeChange reads the record of a key; errors wrap errVersion or errRecord.
func decodeChange(key, b []byte) (history.Change, error) {
	const flags = 1
	r, err := open1("change:"+string(key), b, flags)
	if err != nil || len(key) != 8 {
		return history.Change{}, cmp.Or(err, fmt.Errorf("%w: a key of %d octets", errRecord, len(key)))
	}
	c := history.Change{Seq: binary.BigEndian.Uint64(key), Downgrade: b[1]&1 != 0, Time: r.time(), Until: r.time(), Waited: r.time()}
	c.Before, c.After = r.step(), r.step()
	c.Cause, c.Dest = verdict.Cause(r.octets()), string(r.octets())
	for code := range strings.FieldsSeq(string(r.octets())) {
		c.Codes = append(c.Codes, verdict.Code(code))
	}
	if r.bad || len(r.rest) != 0 || c.Dest == "" || len(c.Codes) > history.MaxCodes {
		return history.Change{}, fmt.Errorf("%w: its fields do not fill it", errRecord)
	}
	return c, nil
}

// encodeState returns the record of the last verdict on a destination.
func encodeState(s *history.State) []byte {
	b := []byte{version1}
	for _, t := range []time.Time{s.Since, s.Seen} {
		b = binary.AppendVarint(b, nanos(t))
	}
	b = appendStep(b, s.Step)
	return binary.BigEndian.AppendUint32(b, checksum("verdict:"+s.Dest, b))
}

// decodeState reads the record of a destination; errors wrap errVersion or errRecord.
func decodeState(dest string, b []byte) (history.State, error) {
	r, err := open1("verdict:"+dest, b, 0)
	if err != nil {
		return history.State{}, err
	}
	s := history.State{Dest: dest, Since: r.time(), Seen: r.time(), Step: r.step()}
	if r.bad || len(r.rest) != 0 {
		return history.State{}, fmt.Errorf("%w: its fields do not fill it", errRecord)
	}
	return s, nil
}

// open1 checks version and checksum of a record, and returns its fields, which begin after
// so many octets of flags.
func open1(name string, b []byte, flags int) (*reader, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: it is empty", errRecord)
	}
	if b[0] != version1 {
		return nil, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	if len(b) < 1+flags+sumSize {
		return nil, fmt.Errorf("%w: only %d octets", errRecord, len(b))
	}
	body, sum := b[:len(b)-sumSize], binary.BigEndian.Uint32(b[len(b)-sumSize:])
	if sum != checksum(name, body) {
		return nil, fmt.Errorf("%w: wrong checksum", errRecord)
	}
	return &reader{rest: body[1+flags:]}, nil
}

func appendStep(b []byte, s history.Step) []byte {
	b = append(b, byte(s.Guarantee))
	return appendWord(appendWord(b, s.Verdict, maxWord), s.Source, maxWord)
}

func (r *reader) step() history.Step {
	if len(r.rest) == 0 {
		r.bad = true
		return history.Step{}
	}
	g := verdict.Guarantee(r.rest[0])
	r.rest = r.rest[1:]
	return history.Step{Guarantee: g, Verdict: string(r.octets()), Source: string(r.octets())}
}

// appendWord appends a text that is cut to so many octets.
func appendWord(b []byte, s string, most int) []byte {
	s = s[:min(len(s), most)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
