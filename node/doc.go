// Package node builds, runs and stops the parts of one Perrin node.
package node
