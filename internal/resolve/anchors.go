package resolve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"tlsverdict/internal/resolve/dnssec"
)

// SystemAnchors is where Debian's dns-root-data has the trust anchors of the root.
const SystemAnchors = "/usr/share/dns/root.ds"

// maxAnchors is the longest file of anchors that is read, in octets; the root's own
// has less than 1 KB.
const maxAnchors = 1 << 20

// LoadAnchors reads the trust anchors of a file, in one of the forms that
// dnssec.ParseAnchors knows. Errors wrap ErrConfig: nothing can be validated.
func LoadAnchors(path string) (*dnssec.Anchors, error) {
	text, err := readAnchors(path)
	if err != nil {
		return nil, fmt.Errorf("%w: the trust anchors cannot be read: %w", ErrConfig, err)
	}
	a, err := dnssec.ParseAnchors(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return a, nil
}

// DefaultAnchors are those of SystemAnchors, or of the file given in its place, with
// the newer ones of this program where it is an older edition of the same list; and
// where it does not exist, or cannot be used, those of this program alone. The error
// says why it cannot be used: there are anchors nevertheless.
func DefaultAnchors(path string) (*dnssec.Anchors, error) {
	a, err := LoadAnchors(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dnssec.BuiltIn(), nil
	case err != nil:
		return dnssec.BuiltIn(), err
	}
	return a.Renewed(), nil
}

func readAnchors(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxAnchors+1))
}
