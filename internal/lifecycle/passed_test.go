package lifecycle

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tlsverdict/postfixmap"
)

// passedEnv has a child of the test say what it was passed.
const passedEnv = "TLSVERDICT_TEST_PASSED"

// TestPassed: sockets with the name are apart from the others, and an address that was passed
// is not opened again. The process that has them is a child of the test, as systemd's would be.
func TestPassed(t *testing.T) {
	if os.Getenv(passedEnv) != "" {
		tell()
		return
	}
	var files []*os.File
	var addresses []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files, addresses = append(files, f), append(addresses, l.Addr().String())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestPassed$'`, self)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "LISTEN_FDS=3", "LISTEN_FDNAMES=policyd.socket:http:other.socket", passedEnv+"="+addresses[2])
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf("named %s\nserved %s\nserved %s\nagain 0\n", addresses[1], addresses[0], addresses[2])
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// tell prints what was passed.
func tell() {
	sockets := Passed("http")
	for _, l := range sockets.Named("http") {
		fmt.Println("named", l.Addr())
	}
	address, err := postfixmap.ParseAddress("inet:" + os.Getenv(passedEnv))
	if err != nil {
		fmt.Println(err)
	}
	listeners, err := sockets.Listen(context.Background(), []postfixmap.Address{address}, 0)
	if err != nil {
		fmt.Println(err)
	}
	for _, l := range listeners {
		fmt.Println("served", l.Addr())
	}
	again := Passed("http")
	fmt.Println("again", len(again.Named("http"))+len(again.others))
}
