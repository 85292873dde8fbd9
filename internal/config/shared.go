package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// Shared is where the nodes of a fleet keep what they share, on Redis. The zero value is
// nowhere.
type Shared struct {
	// Form is how the servers work together, Addresses are host:port of one server, of
	// sentinels, or of some nodes of a cluster. Empty: nothing is shared.
	Form      SharedForm
	Addresses []string
	// Master is the name by which sentinels know the master.
	Master string
	// DB is the number of the database.
	DB int
	// TLS says that connections are made over TLS.
	TLS bool
	// User is "" for the server's default user. password is the one of the URL.
	User     string
	password string
	// PasswordFile, KeyFile, CAFile and CertFile are absolute paths, or name credentials
	// of systemd: see Secret.
	PasswordFile, KeyFile, CAFile, CertFile string
}

// SharedForm is how the servers of a shared store work together.
type SharedForm uint8

const (
	// SharedSingle is one server.
	SharedSingle SharedForm = iota
	// SharedSentinel is a master that sentinels name.
	SharedSentinel
	// SharedCluster is a cluster.
	SharedCluster
)

const (
	redisPort, sentinelPort = 6379, 26379
	maxSharedHosts          = 32
	// maxSecret bounds a file with a password or a key.
	maxSecret = 64 << 10
	// credential begins the name of one.
	credential = "credential:"
)

// ErrSecret: a file of [store] cannot be used.
var ErrSecret = errors.New("config: a file of the shared store cannot be used")

// On reports whether anything is shared.
func (s *Shared) On() bool { return len(s.Addresses) > 0 }

// Files are the paths of all files that are read.
func (s *Shared) Files() []string {
	var out []string
	for _, name := range []string{s.PasswordFile, s.KeyFile, s.CAFile, s.CertFile} {
		if name == "" {
			continue
		}
		if path, err := secretPath(name); err == nil {
			out = append(out, path)
		}
	}
	return out
}

// Password returns the password, "" for none. The file is read anew each time. Errors wrap
// ErrSecret.
func (s *Shared) Password() (string, error) {
	if s.PasswordFile == "" {
		return s.password, nil
	}
	data, err := secret(s.PasswordFile)
	text := strings.TrimRight(string(data), "\r\n")
	if err == nil && text == "" {
		err = fmt.Errorf("%w: store.shared_password_file: it is empty", ErrSecret)
	}
	return text, err
}

// Key returns the secret of the fleet, nil for none. Errors wrap ErrSecret.
func (s *Shared) Key() ([]byte, error) {
	if s.KeyFile == "" {
		return nil, nil
	}
	return secret(s.KeyFile)
}

// Secure returns the settings of TLS, nil for none. Errors wrap ErrSecret.
func (s *Shared) Secure() (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := secret(s.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: store.shared_ca_file: it holds no PEM certificate", ErrSecret)
		}
	}
	if s.CertFile != "" {
		pem, err := secret(s.CertFile)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(pem, pem)
		if err != nil {
			return nil, fmt.Errorf("%w: store.shared_cert_file: %w", ErrSecret, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// secretPath is where a file is.
func secretPath(name string) (string, error) {
	id, ok := strings.CutPrefix(name, credential)
	if !ok {
		return name, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("%w: %s: the service manager passes no credentials (LoadCredential=)", ErrSecret, name)
	}
	return filepath.Join(dir, id), nil
}

func secret(name string) ([]byte, error) {
	path, err := secretPath(name)
	if err != nil {
		return nil, err
	}
	data, err := readFile(path, maxSecret)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	return data, nil
}

// secretFile reads the name of a file, or of a credential.
func secretFile(v any) (string, error) {
	text, ok := v.(string)
	if id, named := strings.CutPrefix(text, credential); ok && named {
		if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
			return "", errors.New(`want a credential's name after "credential:"`)
		}
		return text, nil
	}
	if path, err := absolute(v); err == nil {
		return path, nil
	}
	return "", errors.New(`want an absolute path, "credential:NAME", or ""`)
}

const sharedForms = `want "redis://HOST:PORT/DB", "redis+sentinel://HOST:PORT,HOST:PORT/MASTER" or "redis+cluster://HOST:PORT,HOST:PORT"; "rediss" in place of "redis" for TLS; or ""`

// setShared reads the URL of a shared store.
func setShared(c *Config, v any) error {
	text, ok := v.(string)
	if !ok {
		return errors.New(sharedForms)
	}
	if text == "" {
		return nil
	}
	s := &c.Store.Shared
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return errors.New(sharedForms)
	}
	if err := s.scheme(scheme); err != nil {
		return err
	}
	if strings.ContainsAny(rest, "?#") {
		return errors.New("there are no options after ? or #; a password with such a character is written with % and its code, or in store.shared_password_file")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(hosts, '@'); at >= 0 {
		if err := s.user(hosts[:at]); err != nil {
			return err
		}
		hosts = hosts[at+1:]
	}
	// What is wrong leaves nothing that could be shared.
	addresses, err := s.hosts(hosts)
	if err != nil {
		return err
	}
	if err := s.path(path); err != nil {
		return err
	}
	s.Addresses = addresses
	return nil
}

func (s *Shared) scheme(scheme string) error {
	server, form, _ := strings.Cut(scheme, "+")
	forms := map[string]SharedForm{"": SharedSingle, "sentinel": SharedSentinel, "cluster": SharedCluster}
	known, ok := forms[form]
	if !ok || server != "redis" && server != "rediss" {
		return errors.New(sharedForms)
	}
	s.Form, s.TLS = known, server == "rediss"
	return nil
}

func (s *Shared) user(info string) (err error) {
	user, password, _ := strings.Cut(info, ":")
	if s.User, err = url.PathUnescape(user); err == nil {
		s.password, err = url.PathUnescape(password)
	}
	if err != nil {
		return errors.New("in the user or the password, % is not followed by a code: write %25 for it")
	}
	return nil
}

func (s *Shared) hosts(list string) ([]string, error) {
	port := redisPort
	if s.Form == SharedSentinel {
		port = sentinelPort
	}
	var out []string
	for host := range strings.SplitSeq(list, ",") {
		address, err := sharedAddress(host, port)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	if s.Form == SharedSingle && len(out) > 1 {
		return nil, errors.New(`several hosts are for "redis+sentinel://" and "redis+cluster://" only`)
	}
	if len(out) > maxSharedHosts {
		return nil, fmt.Errorf("want at most %d hosts", maxSharedHosts)
	}
	return out, nil
}

// sharedAddress reads HOST, HOST:PORT or [IPv6]:PORT.
func sharedAddress(text string, port int) (string, error) {
	wrong := fmt.Errorf("%q: want HOST, HOST:PORT or [IPv6]:PORT", text)
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		host, number = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), strconv.Itoa(port)
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 {
		return "", wrong
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(addr.String(), number), nil
	}
	name, err := nexthop.Normalize(host)
	if err != nil || strings.Contains(host, ":") {
		return "", wrong
	}
	return net.JoinHostPort(name, number), nil
}

func (s *Shared) path(path string) error {
	db := path
	if s.Form == SharedSentinel {
		s.Master, db, _ = strings.Cut(path, "/")
		if s.Master == "" || strings.ContainsFunc(s.Master, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("want the name of the master after the sentinels: /mymaster")
		}
	}
	if db == "" {
		return nil
	}
	n, err := strconv.ParseUint(db, 10, 16)
	switch {
	case err != nil:
		return errors.New("want the number of a database after the host: /0")
	case s.Form == SharedCluster && n != 0:
		return errors.New("a cluster has database 0 only")
	}
	s.DB = int(n)
	return nil
}

// checkShared looks at what belongs to a shared store together.
func (r *reader) checkShared(c *Config) {
	const path = "store.shared"
	s := &c.Store.Shared
	if r.wrong(path) {
		return
	}
	if !s.On() {
		for _, k := range []struct{ path, value string }{
			{"store.shared_password_file", s.PasswordFile},
			{"store.shared_key_file", s.KeyFile},
			{"store.shared_ca_file", s.CAFile},
			{"store.shared_cert_file", s.CertFile},
		} {
			if k.value != "" {
				r.warn(k.path, `%s is not used without store.shared`, k.path)
			}
		}
		return
	}
	if s.password != "" && s.PasswordFile != "" {
		r.fail("store.shared_password_file", "store.shared has a password already: leave one of them out")
	} else if s.password != "" {
		r.warn(path, "store.shared has a password, which who reads this file reads: store.shared_password_file names a file of its own")
	}
	if s.KeyFile == "" {
		r.warn(path, "store.shared without store.shared_key_file: whoever can write to the server can make mail to any domain wait")
	}
	if !s.TLS && !slices.ContainsFunc(s.Addresses, isLoopback) {
		r.warn(path, `store.shared is not over TLS: whoever is on the way to the server reads the password; "rediss" in place of "redis" has TLS`)
	}
	if !s.TLS && (s.CAFile != "" || s.CertFile != "") {
		r.warn(r.first("store.shared_ca_file", "store.shared_cert_file"), `store.shared_ca_file and store.shared_cert_file are for "rediss" only`)
	}
	if c.MTASTS.Mode == verdict.Off && c.Rules().Banner == verdict.Off {
		r.warn(path, `store.shared: with mta_sts.mode = "off" and signals.banner = "off" there is nothing to share`)
	}
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || host == "localhost"
}

// CheckFiles reports what is wrong with the files of a shared store, and what works but is
// probably not meant. The error wraps ErrSecret.
func (s *Shared) CheckFiles() (warnings []string, err error) {
	if !s.On() {
		return nil, nil
	}
	if _, err := s.Password(); err != nil {
		return nil, err
	}
	if _, err := s.Key(); err != nil {
		return nil, err
	}
	if _, err := s.Secure(); err != nil {
		return nil, err
	}
	for _, name := range []string{s.PasswordFile, s.KeyFile} {
		path, err := secretPath(name)
		if name == "" || err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			warnings = append(warnings, path+" can be read by every user of this host: chmod 0640")
		}
	}
	return warnings, nil
}

// redacted is a URL without the password, for messages.
func redacted(v any) any {
	text, ok := v.(string)
	if !ok {
		return v
	}
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, user, found := strings.Cut(text[:at], "://")
	if !found {
		return "***" + text[at:]
	}
	user, _, _ = strings.Cut(user, ":")
	return scheme + "://" + user + ":***" + text[at:]
}
