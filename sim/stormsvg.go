package sim

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// Chart is a picture of how many devices have joined by when.
type Chart struct {
	Title, Detail string
	Curves        []Curve
}

// Curve is one line of a chart.
type Curve struct {
	Name   string
	Joined []time.Duration // in order
	Of     int             // devices in all
}

// The chart's measures, in pixels.
const (
	chartWidth, chartHeight = 880, 520
	plotLeft, plotTop       = 70, 84
	plotWidth, plotHeight   = 770, 360
)

// chartColours tell the curves apart, also for those who see red and green alike
// (Okabe and Ito).
var chartColours = [...]string{"#d55e00", "#0072b2", "#009e73", "#cc79a7"}

// SVG draws the chart.
func (c Chart) SVG() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" fill="#222">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, `<text x="%d" y="32" font-size="19" font-weight="bold">%s</text>`+"\n", plotLeft, html.EscapeString(c.Title))
	fmt.Fprintf(&b, `<text x="%d" y="54" fill="#666">%s</text>`+"\n", plotLeft, html.EscapeString(c.Detail))
	span, step := c.span()
	drawAxes(&b, span, step)
	for i, curve := range c.Curves {
		curve.draw(&b, i, span)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// span is how much time the chart shows, in whole steps.
func (c Chart) span() (span, step time.Duration) {
	var last time.Duration
	for _, curve := range c.Curves {
		if n := len(curve.Joined); n > 0 {
			last = max(last, curve.Joined[n-1])
		}
	}
	steps := []time.Duration{
		time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
		20 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 24 * time.Hour,
	}
	for _, step = range steps {
		if last <= 10*step {
			break
		}
	}
	return max(1, (last+step-1)/step) * step, step
}

func chartX(at, span time.Duration) float64 {
	return plotLeft + plotWidth*at.Seconds()/span.Seconds()
}

func chartY(share float64) float64 { return plotTop + plotHeight*(1-share) }

func drawAxes(b *strings.Builder, span, step time.Duration) {
	for percent := 0; percent <= 100; percent += 20 {
		y := chartY(float64(percent) / 100)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", plotLeft, y, plotLeft+plotWidth, y)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%d %%</text>`+"\n", plotLeft-8, y+4, percent)
	}
	y := chartY(0.95)
	fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#888" stroke-dasharray="2 4"/>`+"\n", plotLeft, y, plotLeft+plotWidth, y)
	fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#666">95 %%</text>`+"\n", plotLeft-8, y+4)
	for at := time.Duration(0); at <= span; at += step {
		x := chartX(at, span)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#aaa"/>`+"\n", x, plotTop+plotHeight, x, plotTop+plotHeight+5)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, plotTop+plotHeight+20, shortTime(at))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#444"/>`+"\n", plotLeft, plotTop, plotTop+plotHeight, plotLeft+plotWidth)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">time since the power is back</text>`+"\n", plotLeft+plotWidth/2, plotTop+plotHeight+44)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#666">joined</text>`+"\n", plotLeft-8, plotTop-16)
}

// draw adds the curve, a mark at 95 %, and its line of the legend.
func (c Curve) draw(b *strings.Builder, number int, span time.Duration) {
	colour := chartColours[number%len(chartColours)]
	fmt.Fprintf(b, `<path fill="none" stroke="%s" stroke-width="2.2" d="M%.1f %.1f`, colour, chartX(0, span), chartY(0))
	drawn := -1.0
	for i, at := range c.Joined {
		if x := chartX(at, span); x-drawn >= 0.5 || i == len(c.Joined)-1 {
			fmt.Fprintf(b, "L%.1f %.1f", x, chartY(float64(i+1)/float64(c.Of)))
			drawn = x
		}
	}
	b.WriteString(`"/>` + "\n")
	legend := c.Name
	if at, ok := (StormReport{Devices: c.Of, Joined: c.Joined}).Until(0.95); ok {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s"/>`+"\n", chartX(at, span), chartY(0.95), colour)
		legend += ": 95 % after " + shortTime(at)
	}
	x, y := plotLeft+plotWidth-290, plotTop+plotHeight-24*(len(chartColours)-number)
	fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"/>`+"\n", x, y-4, x+26, y-4, colour)
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", x+34, y, html.EscapeString(legend))
}

// shortTime gives "5 min", "1 h 20 min" and the like.
func shortTime(d time.Duration) string {
	d = d.Round(time.Second)
	hours, minutes, seconds := int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60
	var parts []string
	for _, p := range []struct {
		n    int
		unit string
	}{{hours, "h"}, {minutes, "min"}, {seconds, "s"}} {
		if p.n > 0 && (p.unit != "s" || hours == 0) {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.unit))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, " ")
}
