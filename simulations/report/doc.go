// Package report turns folders of the simulator into one HTML file that needs
// nothing else: figures are SVG in the page, there is no script, and the page
// forbids itself the network.
//
// Run, Sweep and Compare read folders and return a Report. Its figures are plain
// data, a drawing and a table of the same numbers each; Write puts them in the
// page. Bands and bars are 95 % confidence intervals over the replications, the
// unit that is independent: values within one replication wait in the same queues.
// A single replication has no such interval. There the band of a distribution is
// that of Dvoretzky, Kiefer and Wolfowitz, and is called what it is: too narrow.
package report
