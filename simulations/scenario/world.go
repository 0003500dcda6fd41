package scenario

import (
	"math"

	"github.com/perrin-mesh/perrin/simulations/chance"
)

// city is a place with many machines: degrees, and a share of the peers.
type city struct {
	name     string
	lat, lon float64
	share    int64
}

// cities are large metropolitan areas; shares are rough and relative.
var cities = []city{
	{"new-york", 40.7, -74.0, 8}, {"ashburn", 39.0, -77.5, 8}, {"chicago", 41.9, -87.6, 5}, {"dallas", 32.8, -96.8, 4},
	{"los-angeles", 34.1, -118.2, 6}, {"san-jose", 37.3, -121.9, 6}, {"toronto", 43.7, -79.4, 3}, {"sao-paulo", -23.6, -46.6, 4},
	{"london", 51.5, -0.1, 7}, {"paris", 48.9, 2.4, 5}, {"frankfurt", 50.1, 8.7, 8}, {"amsterdam", 52.4, 4.9, 5},
	{"stockholm", 59.3, 18.1, 3}, {"warsaw", 52.2, 21.0, 3}, {"madrid", 40.4, -3.7, 3}, {"johannesburg", -26.2, 28.0, 2},
	{"mumbai", 19.1, 72.9, 5}, {"singapore", 1.4, 103.8, 5}, {"hong-kong", 22.3, 114.2, 4}, {"tokyo", 35.7, 139.7, 6},
	{"seoul", 37.6, 127.0, 4}, {"sydney", -33.9, 151.2, 3},
}

// Light in fibre goes about 200 km in a ms, and cables are longer than the great
// circle: by 1.6 on the whole.
const (
	kmPerMs = 200.0
	detour  = 1.6
	radius  = 6371.0 // km
	local   = 1.0    // ms of round trip within a city
)

// World is a network of 22 cities whose round trips follow from the great circle
// between them. It is a model, not a measurement.
func World() Network {
	n := Network{
		Access: chance.Dist{Kind: chance.Uniform, A: 0.2 * float64(ms), B: 2 * float64(ms)},
		Jitter: 50_000, Loss: 500,
	}
	for _, from := range cities {
		n.Regions = append(n.Regions, Region{Name: from.name, Share: from.share})
		var row []int64
		for _, to := range cities {
			rtt := local + 2*detour*distance(from, to)/kmPerMs
			row = append(row, int64(math.Round(rtt*100))*ms/100)
		}
		n.RTT = append(n.RTT, row)
	}
	return n
}

// distance is the great circle between two cities in km (haversine formula).
func distance(a, b city) float64 {
	rad := func(deg float64) float64 { return deg * math.Pi / 180 }
	s := math.Sin(rad(b.lat-a.lat) / 2)
	u := math.Sin(rad(b.lon-a.lon) / 2)
	h := s*s + math.Cos(rad(a.lat))*math.Cos(rad(b.lat))*u*u
	return 2 * radius * math.Asin(min(1, math.Sqrt(h)))
}

// Coordinates returns where a city of World is, in degrees; false when it is none.
func Coordinates(name string) (lat, lon float64, ok bool) {
	for _, c := range cities {
		if c.name == name {
			return c.lat, c.lon, true
		}
	}
	return 0, 0, false
}
