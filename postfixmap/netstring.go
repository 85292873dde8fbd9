package postfixmap

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

const (
	// MaxRequest is the longest request payload, in bytes, without the netstring around it.
	MaxRequest = 10_000
	// MaxReply is the longest reply payload, in bytes. Postfix drops the connection above it.
	MaxReply = 100_000
)

var (
	// ErrMalformed says that the bytes read are not a netstring. There is no way to find the
	// start of the next one: the connection is lost.
	ErrMalformed = errors.New("postfixmap: not a netstring")
	// ErrTooLong says that a netstring announces, or a value needs, more bytes than the limit.
	// On a connection it is as final as ErrMalformed.
	ErrTooLong = errors.New("postfixmap: longer than the limit")
)

const (
	// readerStart is the first buffer of a Reader: it holds a pipeline of 16 usual requests,
	// and 10,000 idle connections cost 10 MB of it.
	readerStart = 1 << 10
	// readerKeep is the largest buffer that survives the payload that needed it.
	readerKeep = 4 << 10
)

// AppendNetstring appends payload as one netstring, LEN:PAYLOAD and a comma, to dst.
func AppendNetstring(dst, payload []byte) []byte {
	dst = appendLength(dst, len(payload))
	dst = append(dst, payload...)
	return append(dst, ',')
}

func appendLength(dst []byte, n int) []byte {
	return append(strconv.AppendUint(dst, uint64(n), 10), ':')
}

// A Reader takes netstrings from a stream, strictly: digits without leading zeros (but "0"), a
// colon, the payload and a comma, nothing between two of them. It never holds more than one
// payload of the limit plus what arrived together with it, and allocates only to grow.
//
// A Reader is for one goroutine.
type Reader struct {
	src io.Reader
	buf []byte
	// buf[r:w] is what was read and not yet handed out.
	r, w  int
	limit int
	err   error
}

// NewReader returns a Reader of src that refuses payloads above limit bytes (at least 1).
func NewReader(src io.Reader, limit int) *Reader {
	return &Reader{src: src, limit: max(limit, 1)}
}

// Next returns the next payload. The slice is valid until the next call of Next or Fill.
//
// Errors: io.EOF when the stream ends between two netstrings, io.ErrUnexpectedEOF when it ends
// inside one, ErrMalformed, ErrTooLong, or what the stream returned. All but an expired
// deadline are final.
func (d *Reader) Next() ([]byte, error) {
	for {
		payload, err := d.Buffered()
		if payload != nil || err != nil {
			return payload, err
		}
		if err := d.Fill(); err != nil {
			return nil, err
		}
	}
}

// Buffered returns the next payload when it has arrived as a whole already, without reading from
// the stream, and nil otherwise. An empty payload is not nil. It is how a server learns whether
// another request is waiting before it flushes its replies.
func (d *Reader) Buffered() ([]byte, error) {
	n, start, err := d.header()
	if err != nil || start == 0 || d.w-d.r < start+n+1 {
		return nil, err
	}
	end := d.r + start + n
	if d.buf[end] != ',' {
		d.err = fmt.Errorf("%w: no comma after %d bytes", ErrMalformed, n)
		return nil, d.err
	}
	payload := d.buf[d.r+start : end : end]
	d.r = end + 1
	return payload, nil
}

// Pending says how many bytes have arrived and were not handed out: more than none after
// Buffered returned nil means that a netstring has begun.
func (d *Reader) Pending() int { return d.w - d.r }

// Fill reads once from the stream, blocking when it blocks, and keeps what came.
func (d *Reader) Fill() error {
	if d.err != nil {
		return d.err
	}
	d.room()
	n, err := d.src.Read(d.buf[d.w:])
	d.w += n
	switch {
	case n > 0:
		// An error that came along with bytes will come again.
		return nil
	case err == nil:
		return nil
	case errors.Is(err, io.EOF) && d.w > d.r:
		d.err = io.ErrUnexpectedEOF
		return d.err
	default:
		return err
	}
}

// header parses LEN: at the front of the buffer: the payload's length and where it starts,
// counted from r. A start of 0 means that more bytes are needed. The digits are judged as they
// come, so that garbage is refused at its first byte instead of being waited for.
func (d *Reader) header() (n, start int, err error) {
	if d.err != nil {
		return 0, 0, d.err
	}
	for i := d.r; i < d.w; i++ {
		c := d.buf[i]
		digits := i - d.r
		switch {
		case c == ':' && digits > 0:
			return n, digits + 1, nil
		case c < '0' || c > '9':
			d.err = fmt.Errorf("%w: byte %#02x in the length", ErrMalformed, c)
		case digits == 1 && n == 0:
			d.err = fmt.Errorf("%w: leading zero in the length", ErrMalformed)
		default:
			n = n*10 + int(c-'0')
			if n > d.limit {
				d.err = fmt.Errorf("%w of %d bytes", ErrTooLong, d.limit)
			}
		}
		if d.err != nil {
			return 0, 0, d.err
		}
	}
	return n, 0, nil
}

// room makes place for at least one more byte of the netstring at the front.
func (d *Reader) room() {
	switch {
	case d.r == d.w:
		d.r, d.w = 0, 0
		if d.buf == nil || len(d.buf) > readerKeep {
			d.buf = make([]byte, readerStart)
		}
	case d.w == len(d.buf) && d.r > 0:
		d.w = copy(d.buf, d.buf[d.r:d.w])
		d.r = 0
	case d.w == len(d.buf):
		// One payload fills the buffer: double it, never above what the limit allows.
		whole := len(strconv.Itoa(d.limit)) + 1 + d.limit + 1
		grown := make([]byte, min(2*len(d.buf), max(whole, 2*readerStart)))
		d.w = copy(grown, d.buf[d.r:d.w])
		d.r, d.buf = 0, grown
	}
}
