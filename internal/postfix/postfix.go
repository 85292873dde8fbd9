package postfix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrExamine: there is a Postfix, and what it is set up to do cannot be learned. It
// must not be taken for any particular setting.
var ErrExamine = errors.New("postfix: cannot be examined")

// Sha256 is the one kind of fingerprint that TLSA records can be written as.
const Sha256 = "sha256"

// Setup is what Postfix is set up to do. The zero value of each field promises
// nothing.
type Setup struct {
	// Version is that of Postfix ("3.7.11"); empty where there is none.
	Version string
	// ResolvConf is the file that smtp(8) has its resolvers from; without Postfix,
	// the host's.
	ResolvConf string
	// Chrooted: smtp(8) runs below the queue directory.
	Chrooted bool
	// DNSSEC: it asks for DNSSEC (smtp_dns_support_level); else it cannot do DANE.
	DNSSEC bool
	// Digest is the kind of fingerprint that it compares: "sha256", "md5".
	Digest string
}

// Host is the machine that Postfix may be on. In the zero value there is none.
type Host struct {
	// Root is the top of the file system; empty means "/".
	Root string
	// Path are the absolute directories in which postconf may be, below Root.
	Path []string
	// Run runs a program and returns its standard output. Needed where Path is not
	// empty.
	Run func(ctx context.Context, program string, args ...string) ([]byte, error)
}

// Here is the machine that this program runs on.
func Here() Host {
	return Host{Path: append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin"), Run: run}
}

const (
	resolvConf = "etc/resolv.conf"
	smtp       = "smtp/unix"

	dnsSupport = "smtp_dns_support_level"
	digest     = "smtp_tls_fingerprint_digest"
)

// Examine asks postconf. Where there is none, and no main.cf either, there is no
// Postfix, and no error. Errors wrap ErrExamine.
func (h Host) Examine(ctx context.Context) (Setup, error) {
	postconf, err := h.find()
	if postconf == "" || err != nil {
		return Setup{ResolvConf: h.at(resolvConf)}, err
	}
	// Names that are not there would only be missing in the output.
	main, err := h.ask(ctx, postconf, "-x", "mail_version", "queue_directory", "compatibility_level", dnsSupport, digest)
	if err != nil {
		return Setup{}, err
	}
	fields, err := h.ask(ctx, postconf, "-F", smtp+"/chroot")
	if err != nil {
		return Setup{}, err
	}
	// What "-o" in master.cf says goes before main.cf.
	options, err := h.ask(ctx, postconf, "-P", smtp+"/"+dnsSupport, smtp+"/"+digest)
	if err != nil {
		return Setup{}, err
	}
	for _, name := range []string{dnsSupport, digest} {
		if value, ok := options[smtp+"/"+name]; ok {
			main[name] = value
		}
	}
	return h.read(main, fields[smtp+"/chroot"])
}

// read makes a Setup of what postconf said.
func (h Host) read(main map[string]string, chroot string) (Setup, error) {
	s := Setup{Version: main["mail_version"], DNSSEC: main[dnsSupport] == "dnssec", Digest: strings.ToLower(main[digest])}
	if s.Version == "" {
		return Setup{}, fmt.Errorf("%w: postconf names no version", ErrExamine)
	}
	var err error
	if s.Chrooted, err = chrooted(chroot, main["compatibility_level"]); err != nil {
		return Setup{}, err
	}
	s.ResolvConf = h.at(resolvConf)
	if s.Chrooted {
		queue := main["queue_directory"]
		if !filepath.IsAbs(queue) {
			return Setup{}, fmt.Errorf("%w: queue_directory = %.80q is no absolute path", ErrExamine, queue)
		}
		s.ResolvConf = h.at(queue, resolvConf)
	}
	return s, nil
}

// chrooted reads the field of master.cf. "-" is the default, which was "y" before
// compatibility level 1.
func chrooted(field, level string) (bool, error) {
	switch field {
	case "y":
		return true, nil
	case "n":
		return false, nil
	case "-":
		major, _, _ := strings.Cut(level, ".")
		n, err := strconv.ParseUint(major, 10, 16)
		if err != nil {
			return false, fmt.Errorf("%w: compatibility_level = %.80q is no number", ErrExamine, level)
		}
		return n < 1, nil
	}
	return false, fmt.Errorf("%w: master.cf does not say whether %s is chrooted (%.80q)", ErrExamine, smtp, field)
}

// find returns where postconf is, or "".
func (h Host) find() (string, error) {
	for _, dir := range h.Path {
		if !filepath.IsAbs(dir) {
			continue
		}
		program := h.at(dir, "postconf")
		if info, err := os.Stat(program); err == nil && info.Mode().IsRegular() {
			return program, nil
		}
	}
	// A configuration without the program is that of a Postfix elsewhere, in another
	// container perhaps, which nobody here can ask.
	if main := h.at("etc/postfix/main.cf"); len(h.Path) > 0 {
		if _, err := os.Stat(main); err == nil {
			return "", fmt.Errorf("%w: there is %s, and no postconf", ErrExamine, main)
		}
	}
	return "", nil
}

// at is the name of a file below Root.
func (h Host) at(elements ...string) string {
	return filepath.Join(append([]string{"/", h.Root}, elements...)...)
}

// ask runs postconf.
func (h Host) ask(ctx context.Context, postconf string, args ...string) (map[string]string, error) {
	out, err := h.Run(ctx, postconf, args...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %s: %w", ErrExamine, postconf, args[0], err)
	}
	return settings(string(out)), nil
}

// settings reads what postconf prints: a line "name = value" each. A value that goes
// on in the next line, which begins with a space, is cut: none that is asked for does.
func settings(text string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok {
			found[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return found
}
