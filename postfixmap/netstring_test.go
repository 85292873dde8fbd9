package postfixmap

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReader(t *testing.T) {
	long := strings.Repeat("x", 5000)
	tests := []struct {
		name, in string
		limit    int
		want     []string
		err      error
	}{
		{"one", "5:hello,", 10, []string{"hello"}, io.EOF},
		{"empty payload", "0:,", 10, []string{""}, io.EOF},
		{"two", "1:a,2:bc,", 10, []string{"a", "bc"}, io.EOF},
		{"nothing", "", 10, nil, io.EOF},
		{"at the limit", "10:0123456789,", 10, []string{"0123456789"}, io.EOF},
		{"above the limit", "11:01234567890,", 10, nil, ErrTooLong},
		{"above int", "99999999999999999999:", 10, nil, ErrTooLong},
		{"larger than the buffers", "5000:" + long + ",1:a,", 10000, []string{long, "a"}, io.EOF},
		{"leading zero", "01:a,", 10, nil, ErrMalformed},
		{"double zero", "00:,", 10, nil, ErrMalformed},
		{"no digits", ":,", 10, nil, ErrMalformed},
		{"sign", "+1:a,", 10, nil, ErrMalformed},
		{"space", " 1:a,", 10, nil, ErrMalformed},
		{"text", "GET / HTTP/1.1\r\n", 10, nil, ErrMalformed},
		{"no comma", "1:ab", 10, nil, ErrMalformed},
		{"newline between", "1:a,\n1:b,", 10, []string{"a"}, ErrMalformed},
		{"half a length", "1", 10, nil, io.ErrUnexpectedEOF},
		{"half a payload", "5:he", 10, nil, io.ErrUnexpectedEOF},
		{"half after a whole", "1:a,5:he", 10, []string{"a"}, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		for mode, src := range map[string]io.Reader{
			"at once":      strings.NewReader(tt.in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(tt.in)),
			"with error":   iotest.DataErrReader(strings.NewReader(tt.in)),
		} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				d := NewReader(src, tt.limit)
				for _, want := range tt.want {
					got, err := d.Next()
					if err != nil || string(got) != want {
						t.Fatalf("Next() = %.50q, %v; want %.50q", got, err, want)
					}
				}
				for range 2 {
					if got, err := d.Next(); !errors.Is(err, tt.err) || got != nil {
						t.Fatalf("Next() at the end = %.50q, %v; want %v", got, err, tt.err)
					}
				}
			})
		}
	}
}

// Garbage must be refused at its first byte: a server that waits for more of it holds a
// connection for nothing.
func TestReaderJudgesEarly(t *testing.T) {
	for _, in := range []string{"x", "01", "20", ":"} {
		pr, pw := io.Pipe()
		d := NewReader(pr, 10)
		go func() { _, _ = pw.Write([]byte(in)) }()
		if _, err := d.Next(); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLong) {
			t.Errorf("Next() of %q with the stream open = %v", in, err)
		}
		_ = pr.Close()
	}
}

func TestReaderBounds(t *testing.T) {
	whole := AppendNetstring(nil, bytes.Repeat([]byte{'y'}, MaxRequest))
	d := NewReader(iotest.HalfReader(bytes.NewReader(append(whole, "1:a,"...))), MaxRequest)
	if p, err := d.Next(); err != nil || len(p) != MaxRequest {
		t.Fatalf("Next() = %d bytes, %v", len(p), err)
	}
	if len(d.buf) > 2*MaxRequest {
		t.Errorf("buffer of %d bytes for a limit of %d", len(d.buf), MaxRequest)
	}
	if p, err := d.Next(); err != nil || string(p) != "a" {
		t.Fatalf("Next() = %q, %v", p, err)
	}
	if err := d.Fill(); err != io.EOF || len(d.buf) > readerKeep {
		t.Errorf("after the large one: %v, %d bytes kept", err, len(d.buf))
	}
}

func TestReaderDoesNotAllocate(t *testing.T) {
	in := bytes.Repeat([]byte("20:postfix example.com.,"), 10)
	src := bytes.NewReader(in)
	d := NewReader(src, MaxRequest)
	allocs := testing.AllocsPerRun(1000, func() {
		src.Reset(in)
		for range 10 {
			if _, err := d.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Fill(); err != io.EOF {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a pipeline of 10, want none", allocs)
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{"5:hello,", "0:,", "1:a,2:bc,", "01:a,", "99999999999:", "5:he", ":", "1:ab", "11:query a.b.c,7:OK may ,"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		const limit = 64
		d := NewReader(&chunked{in, int(chunk%8) + 1}, limit)
		var again []byte
		for {
			p, err := d.Next()
			if err != nil {
				break
			}
			if len(p) > limit {
				t.Fatalf("payload of %d bytes above the limit", len(p))
			}
			again = AppendNetstring(again, p)
		}
		// What was accepted, encoded again, is exactly how the input starts: nothing that is
		// written in two ways is accepted in more than one.
		if !bytes.HasPrefix(in, again) {
			t.Fatalf("accepted %q out of %q", again, in)
		}
	})
}

type chunked struct {
	b []byte
	n int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.b[:min(c.n, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	in := bytes.Repeat([]byte("20:postfix example.com.,"), 16)
	src := bytes.NewReader(in)
	d := NewReader(src, MaxRequest)
	b.ReportAllocs()
	for b.Loop() {
		src.Reset(in)
		for range 16 {
			if _, err := d.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
