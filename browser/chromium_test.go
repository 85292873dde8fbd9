package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds what is done with one page.
const patience = 60 * time.Second

// screen is how a reader looks at the page.
type screen struct {
	name          string
	width, height int64
	dark          bool
}

func screens() []screen {
	return []screen{
		{name: "desktop", width: 1280, height: 900},
		{name: "desktop-dark", width: 1280, height: 900, dark: true},
		{name: "phone", width: 360, height: 740},
		{name: "phone-dark", width: 360, height: 740, dark: true},
		{name: "tablet", width: 800, height: 1100},
	}
}

// chromium is a browser with nothing in it.
type chromium struct {
	t   *testing.T
	ctx context.Context
}

// startChromium starts one, which ends with the test.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: make browser installs it", err)
	}
	// Not t.TempDir: Chromium's children may still write when the test ends.
	dir, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
	)
	alloc, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		// It is asked to go, so that its children go, too.
		_ = chromedp.Cancel(ctx)
		end()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return &chromium{t, ctx}
}

// tab is one of its pages, on a screen.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
	requested  []string
}

// open opens a tab in which no script of a page runs, and leads it somewhere.
func (c *chromium) open(t *testing.T, s screen, url string) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(c.ctx)
	t.Cleanup(stop)
	// The first action decides how long the tab lives.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if s.dark {
		scheme = "dark"
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s.width < 500,
	})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	do(b, chromedp.Navigate(url))
	return b
}

// call gives the browser a command of its protocol.
func call[P, R any](b *tab, c cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, c, params); err != nil {
		b.t.Fatalf("%s: %v", c.Method, err)
	}
}

// do acts on the page.
func do[T any](b *tab, a chromedp.Action[T]) T {
	b.t.Helper()
	out, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// hear takes note of what the browser does and does not like.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.complaints = append(b.complaints, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
	case *runtime.EventConsoleAPICalled:
		b.complaints = append(b.complaints, fmt.Sprintf("console: %s", e.Type))
	case *runtime.EventExceptionThrown:
		b.complaints = append(b.complaints, e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		b.requested = append(b.requested, e.Request.URL)
	case *network.EventLoadingFailed:
		b.complaints = append(b.complaints, "not loaded: "+e.ErrorText)
	case *page.EventJavascriptDialogOpening:
		b.complaints = append(b.complaints, "a dialog: "+e.Message)
	}
}

// find evaluates an expression in the page, which the page's own policy does not forbid.
func find[T any](b *tab, expression string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](expression))
}

// quiet fails the test where the browser complained, or asked anybody else.
func (b *tab) quiet(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.t.Errorf("the browser complains: %s", c)
	}
	for _, url := range b.requested {
		if !strings.HasPrefix(url, origin+"/") {
			b.t.Errorf("the page asks for %s", url)
		}
	}
}

// fits fails the test where the page is wider than the screen.
func (b *tab) fits() {
	b.t.Helper()
	for _, what := range find[[]string](b, wide) {
		b.t.Errorf("wider than the screen: %s", what)
	}
}

// legible fails the test where a text does not stand out from what is behind it.
func (b *tab) legible() {
	b.t.Helper()
	seen := find[struct {
		Texts int
		Least float64
		Poor  []string
	}](b, contrast)
	for _, what := range seen.Poor {
		b.t.Errorf("contrast below 4.5: %s", what)
	}
	if seen.Texts < 10 {
		b.t.Errorf("only %d texts: the page is empty", seen.Texts)
	}
	b.t.Logf("%d texts, the least contrast is %.2f", seen.Texts, seen.Least)
}

// sound fails the test where who does not see the page would be lost: a table without a
// name or heads, a field without a label, a heading that is left out, a picture without
// words, an id that is there twice.
func (b *tab) sound() {
	b.t.Helper()
	for _, what := range find[[]string](b, landmarks) {
		b.t.Errorf("not accessible: %s", what)
	}
}

const wide = `(() => {
  const out = [], w = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > w) out.push("the page: " + document.documentElement.scrollWidth + " of " + w);
  for (const e of document.body.querySelectorAll("*")) {
    const r = e.getBoundingClientRect();
    if (r.width > 1 && r.right > w + 0.5 && !e.closest("svg")) out.push(e.tagName + "." + e.className + " to " + r.right);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1 && e.tagName != "INPUT" && getComputedStyle(e).overflowX != "visible") out.push(e.tagName + " scrolls");
  }
  return out;
})()`

const contrast = `(() => {
  const rgba = s => { const m = s.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const lum = c => { const f = c.slice(0, 3).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const ratio = (a, b) => { const x = lum(a) + 0.05, y = lum(b) + 0.05; return Math.max(x, y) / Math.min(x, y); };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] == 1) return c; if (c[3] > 0) return null; } return [255, 255, 255, 1]; };
  const out = { Texts: 0, Least: 99, Poor: [] };
  const judge = (e, colour, text) => {
    const back = behind(e), c = rgba(colour), r = back && c[3] == 1 ? ratio(c, back) : 0;
    out.Texts++; out.Least = Math.min(out.Least, r);
    if (r < 4.5) out.Poor.push(text.trim().slice(0, 40) + ": " + r.toFixed(2));
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    const e = n.parentElement, box = e.getBoundingClientRect();
    if (!n.data.trim() || e.closest("svg, .hidden") || box.width <= 1 || box.height <= 1) continue;
    for (let p = e; p; p = p.parentElement) if (getComputedStyle(p).opacity != "1") out.Poor.push("opacity: " + n.data.trim().slice(0, 40));
    judge(e, getComputedStyle(e).color, n.data);
  }
  for (const e of document.querySelectorAll("input")) judge(e, getComputedStyle(e, "::placeholder").color, "placeholder"), judge(e, getComputedStyle(e).color, "field");
  for (const e of document.querySelectorAll("td[data-label]")) if (getComputedStyle(e, "::before").content != "none") judge(e, getComputedStyle(e, "::before").color, e.dataset.label);
  return out;
})()`

const landmarks = `(() => {
  const out = [], need = (ok, what) => { if (!ok) out.push(what); };
  for (const tag of ["header", "main", "footer", "h1", "form[role=search]"]) need(document.querySelectorAll(tag).length == 1, "there must be one " + tag);
  need(document.documentElement.lang == "en", "no language");
  for (const t of document.querySelectorAll("table")) {
    need(t.caption && t.caption.textContent, "a table without a caption");
    const heads = t.tHead ? t.tHead.rows[0].cells.length : 0;
    need(heads > 1, "a table without heads");
    for (const r of [...t.tBodies].flatMap(b => [...b.rows])) {
      need([...r.cells].reduce((n, c) => n + c.colSpan, 0) == heads, "a row with " + r.cells.length + " cells below " + heads + " heads");
      need(r.querySelector("th[scope]"), "a row without a head");
    }
    for (const e of t.querySelectorAll("tr, td, th, thead, tbody")) need(e.getAttribute("role"), "a part of a table without its role, which a phone's layout takes away");
  }
  for (const s of document.querySelectorAll("section")) need(s.querySelector("h1, h2")?.id == s.getAttribute("aria-labelledby"), "a section without its heading");
  for (const s of document.querySelectorAll("svg")) need(s.getAttribute("aria-hidden") || document.getElementById(s.getAttribute("aria-labelledby"))?.textContent, "a picture without words");
  for (const i of document.querySelectorAll("input")) need(i.labels.length == 1, "a field without a label");
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3")) { const l = +h.tagName[1]; need(l <= level + 1, "a heading is left out before " + h.textContent); level = l; }
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  need(new Set(ids).size == ids.length, "an id is there twice");
  for (const a of document.querySelectorAll("a[href^='#']")) need(document.getElementById(a.hash.slice(1)), "a link to " + a.hash + ", which is not there");
  for (const e of document.querySelectorAll("script, style, iframe, [style], [onclick], [onload], [onerror]")) out.push("there is a " + e.tagName);
  return out;
})()`
