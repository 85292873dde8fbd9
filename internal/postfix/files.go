package postfix

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// Files are what postconf(1) and postmap(1) read when they are asked what this package
// asks.
type Files struct {
	// Read are files and directories, with all that is below.
	Read []string
	// Run are directories of programs and libraries.
	Run []string
	// List are directories of which only names are wanted.
	List []string
}

// libraries is the setting that says where Postfix has its own.
const libraries = "shlib_directory"

// places are the settings that say where Postfix is described.
func places() []string { return []string{"config_directory", "meta_directory"} }

// Files returns what Postfix says of where its files are, beside where they are by
// default. Tables and lists count with their directory, unless that is one at the top,
// such as /etc; then by themselves. What cannot be found out is left out, so that a question that needs
// it fails later, with a reason.
func (h Host) Files(ctx context.Context) Files {
	f := Files{
		Read: []string{h.at("etc/postfix"), h.at("usr/lib/postfix"), h.at("var/spool/postfix/etc")},
		List: []string{h.at("var/spool/postfix")},
	}
	postconf, err := h.find()
	if postconf == "" || err != nil {
		return f
	}
	f.Run = append(f.Run, filepath.Dir(postconf))
	if real, err := filepath.EvalSymlinks(postconf); err == nil {
		f.Run = append(f.Run, filepath.Dir(real))
	}
	lists := append(classes(), transports)
	for setting := range ways() {
		lists = append(lists, setting)
	}
	main, err := h.ask(ctx, postconf, slices.Concat([]string{"-x", queue, libraries}, places(), lists)...)
	if err != nil {
		return f
	}
	for _, setting := range places() {
		if filepath.IsAbs(main[setting]) {
			f.Read = append(f.Read, h.at(main[setting]))
		}
	}
	if filepath.IsAbs(main[libraries]) {
		f.Run = append(f.Run, h.at(main[libraries]))
	}
	if filepath.IsAbs(main[queue]) {
		f.Read, f.List = append(f.Read, h.at(main[queue], "etc")), append(f.List, h.at(main[queue]))
	}
	for _, setting := range lists {
		for _, item := range split(main[setting]) {
			f.Read = append(f.Read, h.table(item)...)
		}
	}
	return f
}

// table returns the files of an item of a list: "/path", "hash:/path", "!proxy:cdb:/path".
func (h Host) table(item string) []string {
	i := strings.IndexByte(item, '/')
	if i < 0 || i > 0 && item[i-1] != ':' && item[i-1] != '!' || strings.Contains(item, "socketmap:") {
		return nil
	}
	path := h.at(item[i:])
	if dir := filepath.Dir(path); filepath.Dir(dir) != h.at() {
		return []string{dir}
	}
	out := []string{path}
	for _, suffix := range []string{".db", ".lmdb", ".cdb", ".dir", ".pag"} {
		out = append(out, path+suffix)
	}
	return out
}
