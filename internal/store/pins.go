package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tlsverdict/internal/signal"
)

// Pins are few and small beside policies, and each must be at hand whenever a domain is
// ruled on: all of them are in memory, and the bucket "pins" is their copy.
//
// A record, all versions:
//
//	version   1 octet
//	fields    see encodePin
//	checksum  4 octets, CRC-32C of "pin:", the host, and all before

const (
	// maxPins bounds the hosts that are pinned.
	maxPins = 50_000
	// keepEnded is how long a pin is kept after its end, so that a clock that was wrong
	// for a while does not end what it seemed to have ended.
	keepEnded = 30 * 24 * time.Hour
)

// The flags of a record.
const (
	pinWide = 1 << iota
	pinBelow
)

// ErrFull: there are as many pins as are kept, and no more are taken. To drop others for
// them would let whoever has many hosts end the pins of all.
var ErrFull = errors.New("store: too many pins")

func pinsBucket() []byte { return []byte("pins") }

// pins are all that are known. They are under Store.mu.
type pins struct {
	known map[string]signal.Pin
	// changed are the hosts whose pin differs from the file's, and writing those that
	// are on their way there.
	changed, writing map[string]bool
	// unread is why the file's are not known.
	unread error
}

func newPins() pins {
	return pins{known: make(map[string]signal.Pin), changed: make(map[string]bool)}
}

// Pin returns what is kept for a host, ended or not. It waits for no disk. After an error
// it is not known whether there is a pin: the file could not be read. Who takes that for
// "no pin" hands the host's mail to whoever can damage a file.
func (s *Store) Pin(host string) (p signal.Pin, found bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p, found = s.pins.known[host]; found {
		return p, true, nil
	}
	if s.pins.unread != nil && !s.pins.changed[host] && !s.pins.writing[host] {
		return signal.Pin{}, false, fmt.Errorf("store: pin of %s: %w", host, s.pins.unread)
	}
	return signal.Pin{}, false, nil
}

// Pins returns all that are kept, ended or not, in the order of their hosts. With an error
// they may not be all.
func (s *Store) Pins() ([]signal.Pin, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Values(s.pins.known), func(a, b signal.Pin) int { return strings.Compare(a.Host, b.Host) }), s.pins.unread
}

// UpdatePin changes what is kept for a host, from what is newest: modify gets that, and
// returns the new pin and true, or false to drop it. It must be quick, and must not use
// the store. The error is ErrFull: then nothing has changed.
func (s *Store) UpdatePin(host string, modify func(old signal.Pin, found bool) (signal.Pin, bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.pins.known[host]
	next, keep := modify(old, found)
	next.Host = host
	switch {
	case keep && (!found || next != old):
		if !found && len(s.pins.known) >= maxPins {
			return ErrFull
		}
		s.pins.known[host] = next
	case !keep && (found || s.pins.unread != nil):
		delete(s.pins.known, host)
	default:
		return nil
	}
	s.pinChanged(host)
	return nil
}

// DropPins drops pins that ended long ago, and returns how many.
func (s *Store) DropPins(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for host, p := range s.pins.known {
		if now.Sub(p.Until) > keepEnded {
			delete(s.pins.known, host)
			s.pinChanged(host)
			n++
		}
	}
	return n
}

// pinChanged has the writer write a pin. The caller holds the lock.
func (s *Store) pinChanged(host string) {
	if s.path == "" {
		return
	}
	s.pins.changed[host] = true
	s.seq++
	notify(s.wake)
}

// pinBatch takes what is to be written: nil for a host whose record goes. The caller
// holds the lock.
func (s *Store) pinBatch() map[string][]byte {
	if len(s.pins.changed) == 0 {
		return nil
	}
	batch := make(map[string][]byte, len(s.pins.changed))
	for host := range s.pins.changed {
		batch[host] = nil
		if p, found := s.pins.known[host]; found {
			batch[host] = encodePin(p)
		}
	}
	s.pins.writing, s.pins.changed = s.pins.changed, make(map[string]bool)
	return batch
}

// pinsWritten ends the writing of a batch. The caller holds the lock.
func (s *Store) pinsWritten(err error) {
	if err != nil {
		maps.Copy(s.pins.changed, s.pins.writing)
	}
	s.pins.writing = nil
}

// writePins applies a batch.
func (b buckets) writePins(batch map[string][]byte) error {
	for _, host := range slices.Sorted(maps.Keys(batch)) {
		var err error
		if record := batch[host]; record != nil {
			err = b.pins.Put([]byte(host), record)
		} else {
			err = b.pins.Delete([]byte(host))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadPins reads a file's pins beside those that are known, which are newer. What is known
// and not in the file, because that is a new one, is written again.
func (s *Store) loadPins(f *file) error {
	found := make(map[string][]byte)
	err := f.view(func(b buckets) error { return b.eachPin(forwards(), found) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for host := range s.pins.known {
		if found[host] == nil {
			s.pins.changed[host] = true
		}
	}
	for host, record := range found {
		if _, newer := s.pins.known[host]; newer || s.pins.changed[host] || s.pins.writing[host] {
			continue
		}
		p, err := decodePin(host, record)
		if err != nil {
			p = s.unreadablePin(host, now, err)
		}
		s.pins.known[host] = p
	}
	s.pins.unread = nil
	if len(s.pins.changed) > 0 {
		s.seq++
		notify(s.wake)
	}
	return nil
}

// unreadablePin is what stands for a pin whose record cannot be read. That there was one is
// known, and its end is not: the host counts as pinned for as long as mail waits anywhere,
// which is time enough to see its banner again.
func (s *Store) unreadablePin(host string, now time.Time, err error) signal.Pin {
	s.ignored.Add(1)
	p := signal.Pin{Host: host, Until: now.Add(keepUnreadable)}
	s.log.Error("store: a pin cannot be read; its host counts as pinned for a week, or until its banner is seen again",
		"host", host, "until", p.Until.UTC().Format(time.RFC3339), "error", err)
	s.pins.changed[host] = true
	return p
}

// pinsUnread says why the file's pins are not known, while there is a file.
func (s *Store) pinsUnread(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pins.unread = why
}

// eachPin collects records by their hosts.
func (b buckets) eachPin(d direction, into map[string][]byte) error {
	if b.pins == nil {
		return nil // a file of before there were any
	}
	var last []byte
	c := b.pins.Cursor()
	for k, v := d.first(c); k != nil && len(into) < 2*maxPins; k, v = d.next(c) {
		if last != nil && bytes.Compare(k, last) != d.order {
			// A tree that leads back into itself would be walked for ever.
			return fmt.Errorf("%w: pins are not in order", ErrDamaged)
		}
		last = bytes.Clone(k)
		if len(k) <= maxDomain {
			into[string(k)] = bytes.Clone(v)
		}
	}
	return nil
}

// salvagePins copies the pins that can be reached in a damaged file to a new one.
func salvagePins(from, to *file) (int, error) {
	found := make(map[string][]byte)
	for _, d := range []direction{forwards(), backwards()} {
		// What is found before the damage is kept.
		if err := from.view(func(b buckets) error { return b.eachPin(d, found) }); err == nil {
			break
		}
	}
	return len(found), to.update(func(b buckets) error { return b.writePins(found) })
}

// encodePin returns the record of a pin.
func encodePin(p signal.Pin) []byte {
	b := []byte{version1, 0}
	if p.Pattern.Wildcard {
		b[1] |= pinWide
	}
	if p.IncludeSubDomains {
		b[1] |= pinBelow
	}
	for _, t := range []time.Time{p.Learned, p.Seen, p.Until} {
		b = binary.AppendVarint(b, nanos(t))
	}
	b = append(b, p.Pattern.Host...)
	return binary.BigEndian.AppendUint32(b, checksum("pin:"+p.Host, b))
}

// decodePin reads the record of a host; errors wrap errVersion or errRecord.
func decodePin(host string, b []byte) (signal.Pin, error) {
	if len(b) == 0 {
		return signal.Pin{}, fmt.Errorf("%w: it is empty", errRecord)
	}
	if b[0] != version1 {
		return signal.Pin{}, fmt.Errorf("%w: %d", errVersion, b[0])
	}
	const flags = 1
	if len(b) < 1+flags+sumSize {
		return signal.Pin{}, fmt.Errorf("%w: only %d octets", errRecord, len(b))
	}
	body, sum := b[:len(b)-sumSize], binary.BigEndian.Uint32(b[len(b)-sumSize:])
	if sum != checksum("pin:"+host, body) {
		return signal.Pin{}, fmt.Errorf("%w: wrong checksum", errRecord)
	}
	r := reader{rest: body[1+flags:]}
	p := signal.Pin{Host: host, Learned: r.time(), Seen: r.time(), Until: r.time(), IncludeSubDomains: body[1]&pinBelow != 0}
	p.Pattern = signal.Pattern{Wildcard: body[1]&pinWide != 0, Host: string(r.rest)}
	if r.bad {
		return signal.Pin{}, fmt.Errorf("%w: its fields do not fill it", errRecord)
	}
	return p, nil
}
