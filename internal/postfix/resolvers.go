package postfix

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// ErrUnlike: the C library reads resolv.conf otherwise than it can be read here, so
// that Postfix may ask resolvers that are not known. It does not pass by itself.
var ErrUnlike = errors.New("postfix: cannot tell its resolvers")

const (
	dnsPort = 53
	// maxResolvers is how many the C libraries read (MAXNS in <resolv.h>).
	maxResolvers = 3
	// maxResolvConf bounds the file, in bytes.
	maxResolvConf = 64 << 10
)

// Resolvers returns what smtp(8) asks, in the order of its resolv.conf: at most
// three, and loopback where the file is missing or names none. What the C library
// and this program might not read alike is an error that wraps ErrUnlike, since a
// resolver that was passed over here would be trusted unseen. Other errors wrap
// ErrExamine.
func (s Setup) Resolvers() ([]netip.AddrPort, error) {
	text, err := s.readResolvConf()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return loopback(), nil
	case err != nil && s.leadsOut():
		return nil, fmt.Errorf("%w: %s is a link that leads elsewhere in the chroot of smtp(8) than outside of it", ErrUnlike, s.ResolvConf)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrExamine, err)
	case len(text) > maxResolvConf:
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrUnlike, s.ResolvConf, maxResolvConf)
	}
	servers, err := resolvers(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnlike, s.ResolvConf, err)
	}
	return servers, nil
}

// readResolvConf follows links as smtp(8) does: in the chroot none leads out of it,
// and one that begins with "/" begins there.
func (s Setup) readResolvConf() (string, error) {
	open := func() (*os.File, error) { return os.Open(s.ResolvConf) }
	if s.Chrooted {
		open = func() (*os.File, error) { return os.OpenInRoot(s.jail(), resolvConf) }
	}
	f, err := open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxResolvConf+1))
	return string(text), err
}

// jail is the directory that is "/" to a chrooted smtp(8).
func (s Setup) jail() string { return strings.TrimSuffix(s.ResolvConf, resolvConf) }

// leadsOut reports whether the name of resolv.conf in the chroot has a link in it: those
// that stay inside were followed.
func (s Setup) leadsOut() bool {
	if !s.Chrooted {
		return false
	}
	for _, name := range []string{s.ResolvConf, filepath.Dir(s.ResolvConf)} {
		if info, err := os.Lstat(name); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return true
		}
	}
	return false
}

func loopback() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
}

// resolvers reads resolv.conf(5). The C libraries want "nameserver" at the very
// beginning of a line and a space or tab after it; they take "127.1" and
// "010.0.0.1" (octal) for addresses, and pass over what they take for none. What
// of this is not plain is refused.
func resolvers(text string) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(strings.ToLower(fields[0]), "nameserver") {
			continue
		}
		rest, ok := strings.CutPrefix(line, "nameserver")
		words := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '\t' })
		if !ok || len(words) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			return nil, fmt.Errorf("the line %.80q", line)
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil {
			return nil, fmt.Errorf("the line %.80q", line)
		}
		if len(servers) < maxResolvers {
			servers = append(servers, netip.AddrPortFrom(addr, dnsPort))
		}
	}
	if len(servers) == 0 {
		return loopback(), nil
	}
	return servers, nil
}
