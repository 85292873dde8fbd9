package dnssec

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// corpus lists the files of the Unbound project that a pattern matches, where they are.
func corpus(t *testing.T, pattern string) []string {
	t.Helper()
	dir := os.Getenv("RPL_DIR")
	if dir == "" {
		dir = filepath.Join("..", "shared", "corpora", "unbound")
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", "..", dir) // the tests run in the package's folder
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Logf("no %s in %s", pattern, dir)
	}
	return files
}

// TestSignatureFiles checks single signatures of every algorithm, made by several
// programs. The first entry of a file holds the keys; names that begin with "bogus" must
// not verify.
func TestSignatureFiles(t *testing.T) {
	files := append(corpus(t, "test_signatures.*"), corpus(t, "test_sigs.*")...)
	suite, good, bad := oldSuite(), 0, 0
	for _, file := range files {
		sc, err := parseRPL(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		base := filepath.Base(file)
		set := sets(sc.entries[0].msg.Answer).find(mustName(sc.entries[0].msg.Answer[0].Header().Name), dns.TypeDNSKEY)
		if set == nil {
			t.Errorf("%s: no keys", base)
			continue
		}
		ks, bogus := suite.readKeys(set, new(Budget))
		if bogus != nil {
			t.Errorf("%s: %v", base, bogus)
			continue
		}
		for i, e := range sc.entries[1:] {
			m := index(e.msg, time.Time{})
			for _, set := range append(m.answer, m.authority...) {
				if len(set.sigs) == 0 {
					continue
				}
				at := time.Unix(int64(set.sigs[0].inception), 0).Add(time.Hour)
				_, err := set.verify(ks, at, new(Budget))
				want := !strings.HasPrefix(set.owner.String(), "bogus")
				switch {
				case !suite.supports(set.sigs[0].algorithm) || base == "test_sigs.revoked":
					want = false
				case base == "test_sigs.sha1_and_256":
					want = err == nil // it wants all algorithms; one valid signature suffices (RFC 6840 §5.11)
				case base == "test_sigs.hinfo" && i == 3:
					want = false // its signer folded letters that are not folded (RFC 6840 §5.1)
				}
				if (err == nil) != want {
					t.Errorf("%s: %v: %v", base, set, err)
				}
				if want {
					good++
				} else {
					bad++
				}
			}
		}
	}
	t.Logf("%d signatures hold, %d do not, as they should", good, bad)
}

// TestDSFiles matches DS records with keys.
func TestDSFiles(t *testing.T) {
	for _, file := range corpus(t, "test_ds.*") {
		sc, err := parseRPL(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range sc.entries {
			all := sets(e.msg.Answer)
			owner := mustName(e.msg.Answer[0].Header().Name)
			rd, err := rdataOf(all.find(owner, dns.TypeDS).rrs[0])
			if err != nil {
				t.Fatal(err)
			}
			ds := readDS(rd)
			rd, err = rdataOf(all.find(owner, dns.TypeDNSKEY).rrs[0])
			if err != nil {
				t.Fatal(err)
			}
			k, _ := readKey(rd)
			if want := strings.HasPrefix(e.msg.Question[0].Name, "yes"); ds.matches(owner, k) != want {
				t.Errorf("%s: %v", filepath.Base(file), e.msg.Answer)
			}
		}
	}
}

// TestHashFiles computes NSEC3 hashes.
func TestHashFiles(t *testing.T) {
	for _, file := range corpus(t, "test_nsec3_hash.*") {
		sc, err := parseRPL(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range sc.entries {
			rr := e.msg.Ns[0].(*dns.NSEC3)
			salt, err := hex.DecodeString(strings.Trim(rr.Salt, "-"))
			if err != nil {
				t.Fatal(err)
			}
			label, _, _ := strings.Cut(e.msg.Answer[0].Header().Name, ".")
			var want hash
			if !readHash(label, &want) {
				t.Fatalf("%q is no hash", label)
			}
			n := mustName(e.msg.Question[0].Name)
			if got := (params{iterations: rr.Iterations, salt: string(salt)}).hash(n); got != want {
				t.Errorf("%v: %x", n, got)
			}
		}
	}
}
