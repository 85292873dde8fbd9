package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"tlsverdict/internal/verdict"
	"tlsverdict/postfixmap"
)

const (
	week    = 7 * 24 * time.Hour
	dnsPort = 53
)

// word is a value that the file spells as a string.
type word[T any] struct {
	text  string
	value T
}

// oneOf reads one of a few words.
func oneOf[T any](words ...word[T]) func(any) (T, error) {
	return func(v any) (T, error) {
		texts := make([]string, len(words))
		for i, w := range words {
			if v == w.text {
				return w.value, nil
			}
			texts[i] = strconv.Quote(w.text)
		}
		var zero T
		return zero, errors.New("want " + strings.Join(texts, " or "))
	}
}

func signalMode() func(any) (verdict.Mode, error) {
	return oneOf(word[verdict.Mode]{"off", verdict.Off},
		word[verdict.Mode]{"observe", verdict.Observe}, word[verdict.Mode]{"enforce", verdict.Enforce})
}

func boolean(v any) (bool, error) {
	b, ok := v.(bool)
	if !ok {
		return false, errors.New("want true or false, without quotes")
	}
	return b, nil
}

func integer(least, most int64) func(any) (int, error) {
	return func(v any) (int, error) {
		n, ok := v.(int64)
		if !ok || n < least || n > most {
			return 0, fmt.Errorf("want a whole number from %d to %d, without quotes", least, most)
		}
		return int(n), nil
	}
}

func duration(least, most time.Duration) func(any) (time.Duration, error) {
	return func(v any) (time.Duration, error) {
		text, ok := v.(string)
		d, err := time.ParseDuration(text)
		if !ok || err != nil || d < least || d > most {
			return 0, fmt.Errorf(`want a duration from "%s" to "%s", in quotes and with its unit (ms, s, m or h)`,
				writeDuration(least), writeDuration(most))
		}
		return d, nil
	}
}

// writeDuration leaves the zeros out that time.Duration.String adds: "24h".
func writeDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// fileMode reads permissions. They are a string, because TOML has no numbers
// that begin with 0 and 660 would mean something else.
func fileMode(v any) (fs.FileMode, error) {
	text, ok := v.(string)
	n, err := strconv.ParseUint(text, 8, 32)
	if !ok || err != nil || n > 0o777 || n&0o222 == 0 {
		return 0, errors.New(`want permissions in octal digits and quotes, such as "0660", with which somebody may write`)
	}
	return fs.FileMode(n), nil
}

// absolute reads an absolute path, or none: a daemon's working directory is not
// the operator's.
func absolute(v any) (string, error) {
	text, ok := v.(string)
	if !ok || text != "" && !filepath.IsAbs(text) || strings.ContainsRune(text, 0) {
		return "", errors.New(`want an absolute path, or ""`)
	}
	return text, nil
}

// oneLine reads a text without line ends and other control characters, which
// would break the lines in which it is printed.
func oneLine(v any) (string, error) {
	text, ok := v.(string)
	if !ok || strings.ContainsFunc(text, unicode.IsControl) {
		return "", errors.New("want a text of one line")
	}
	return text, nil
}

func address(v any) (postfixmap.Address, error) {
	text, ok := v.(string)
	if !ok {
		return postfixmap.Address{}, errors.New(`want an address such as "inet:127.0.0.1:8461" or "unix:/run/tlsverdict/policyd.sock"`)
	}
	a, err := postfixmap.ParseAddress(text)
	if err != nil {
		return a, errors.New(strings.TrimPrefix(err.Error(), fmt.Sprintf("%v: %q: ", postfixmap.ErrAddress, text)))
	}
	return a, nil
}

// server reads the address of a resolver; its port is 53 unless it names one.
func server(v any) (netip.AddrPort, error) {
	text, _ := v.(string)
	s, err := netip.ParseAddrPort(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return s, errors.New(`want an IP address, with a port if it is not 53, such as "127.0.0.1:53" or "[::1]:53"`)
		}
		s = netip.AddrPortFrom(a, dnsPort)
	}
	s = netip.AddrPortFrom(s.Addr().Unmap(), s.Port())
	if s.Port() == 0 || s.Addr().IsUnspecified() || s.Addr().IsMulticast() {
		return s, errors.New("no resolver can have this address")
	}
	return s, nil
}

// serverOrNone reads the address of a resolver, or none.
func serverOrNone(v any) (netip.AddrPort, error) {
	if v == "" {
		return netip.AddrPort{}, nil
	}
	return server(v)
}

func network(v any) (netip.Prefix, error) {
	text, _ := v.(string)
	p, err := netip.ParsePrefix(text)
	if err != nil {
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			return p, fmt.Errorf("want a network; this address alone is %q", netip.PrefixFrom(a, a.BitLen()))
		}
		return p, errors.New(`want a network such as "10.0.0.0/8" or "fd00::/8"`)
	}
	if p.Addr().Is4In6() {
		return p, errors.New("want an IPv4 network without the ::ffff: before it")
	}
	if p != p.Masked() {
		return p, fmt.Errorf("the address has bits beyond the length; the network is %q", p.Masked())
	}
	return p, nil
}

// listError is what is wrong with the entries of a list.
type listError []entryError

type entryError struct {
	index int
	value any
	err   error
}

func (e listError) Error() string {
	return fmt.Sprintf("entry %d: %v", e[0].index+1, e[0].err)
}

// list reads a list in which nothing is there twice. An empty one is nil.
func list[T comparable](parse func(any) (T, error)) func(any) ([]T, error) {
	return func(v any) ([]T, error) {
		values, ok := v.([]any)
		if !ok {
			return nil, errors.New("want a list, in square brackets")
		}
		var out []T
		var wrong listError
		seen := map[T]bool{}
		for i, v := range values {
			t, err := parse(v)
			if err == nil && seen[t] {
				err = errors.New("it is there twice")
			}
			if err != nil {
				wrong = append(wrong, entryError{i, v, err})
				continue
			}
			seen[t] = true
			out = append(out, t)
		}
		if wrong != nil {
			return nil, wrong
		}
		return out, nil
	}
}
