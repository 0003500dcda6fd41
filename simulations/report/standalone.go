package report

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Key is what a chart is called on a command line: its title in small letters, with a
// hyphen for all that is no letter and no figure.
func (f *Figure) Key() string {
	return strings.Trim(notWord.ReplaceAllString(strings.ToLower(f.Title), "-"), "-")
}

var notWord = regexp.MustCompile(`[^\p{L}\p{N}]+`)

// Charts returns the keys of the figures that are drawings.
func (r *Report) Charts() (keys []string) {
	for _, f := range r.Figures {
		if f.Drawing != "" {
			keys = append(keys, f.Key())
		}
	}
	return keys
}

// Chart returns the drawing that has a key, or that alone has it as a part of its key;
// nil when there is none, or are several.
func (r *Report) Chart(key string) (found *Figure) {
	several := false
	for _, f := range r.Figures {
		switch {
		case f.Drawing == "":
		case f.Key() == key:
			return f
		case key != "" && strings.Contains(f.Key(), key):
			several = found != nil
			found = f
		}
	}
	if several {
		return nil
	}
	return found
}

// WriteSVG writes a drawing as an SVG file of its own, in the colours of paper, for a
// program that knows neither variables of CSS nor other files.
func (f *Figure) WriteSVG(to io.Writer) error {
	drawing := string(f.Drawing)
	size := viewBox.FindStringSubmatch(drawing)
	if size == nil {
		return fmt.Errorf("%s is not drawn", f.Title)
	}
	_, err := fmt.Fprintf(to, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" %s<style>%s</style>%s`+"\n",
		size[1], size[2], strings.TrimPrefix(size[0], "<svg "), paperStyle(), strings.TrimPrefix(drawing, size[0]))
	return err
}

// viewBox matches the opening tag of a drawing.
var viewBox = regexp.MustCompile(`^<svg viewBox="0 0 ([0-9.]+) ([0-9.]+)"[^>]*>`)

var (
	cssVariable = regexp.MustCompile(`(--\w+): (#[0-9a-f]+)`)
	cssUse      = regexp.MustCompile(`var\((--\w+)\)`)
)

// paperStyle is the part of the page's style that drawings use, with the colours
// of its light side put in. There is no card behind the drawing.
func paperStyle() string {
	light, _, _ := strings.Cut(pageText, "@media")
	colours := map[string]string{}
	for _, m := range cssVariable.FindAllStringSubmatch(light, -1) {
		colours[m[1]] = m[2]
	}
	colours["--card"] = colours["--paper"]
	_, rest, _ := strings.Cut(pageText, "svg text {")
	rest, _, _ = strings.Cut(rest, "details {")
	style := "svg { font: 11.5px Helvetica, Arial, sans-serif } svg text {" + rest
	return cssUse.ReplaceAllStringFunc(style, func(use string) string { return colours[cssUse.FindStringSubmatch(use)[1]] })
}
