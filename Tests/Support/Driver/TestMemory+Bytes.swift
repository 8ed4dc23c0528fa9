// SPDX-License-Identifier: Apache-2.0

/// Plain copies to and from guest memory, of any alignment, within one region.
extension TestMemory {
    public func write(_ bytes: some Collection<UInt8>, at address: UInt64) {
        area(at: address, byteCount: bytes.count).write(bytes, at: 0)
    }

    public func read(at address: UInt64, count: Int) -> [UInt8] {
        area(at: address, byteCount: count).read(at: 0, count: count)
    }

    /// Writes one byte over and over.
    public func fill(_ byte: UInt8, at address: UInt64, count: Int) {
        area(at: address, byteCount: count).fill(byte, at: 0, count: count)
    }

    /// Whether every byte of a stretch is `byte`.
    public func isFilled(with byte: UInt8, at address: UInt64, count: Int) -> Bool {
        area(at: address, byteCount: count).isFilled(with: byte, at: 0, count: count)
    }

    /// Writes an integer, little-endian.
    public func store<Value: FixedWidthInteger>(_ value: Value, at address: UInt64) {
        let bytes = (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        write(bytes, at: address)
    }

    /// Reads an integer, little-endian.
    public func load<Value: FixedWidthInteger>(
        _ type: Value.Type = Value.self, at address: UInt64
    ) -> Value {
        let bytes = read(at: address, count: Value.bitWidth / 8)
        return bytes.reversed().reduce(Value.zero) { $0 << 8 | Value(truncatingIfNeeded: $1) }
    }

    // MARK: Segments

    /// A new segment that holds these bytes.
    public func segment(_ bytes: some Collection<UInt8>) -> Segment {
        let segment = Segment(at: allocate(byteCount: bytes.count), byteCount: bytes.count)
        write(bytes, at: segment.address)
        return segment
    }

    /// A new segment, each of its bytes `byte`.
    public func segment(byteCount: Int, filledWith byte: UInt8 = 0) -> Segment {
        let segment = Segment(at: allocate(byteCount: byteCount), byteCount: byteCount)
        fill(byte, at: segment.address, count: byteCount)
        return segment
    }

    /// The bytes of some segments, one after the other; the first `count` of them if given.
    public func read(_ segments: [Segment], count: Int? = nil) -> [UInt8] {
        var bytes: [UInt8] = []
        var left = count ?? segments.reduce(0) { $0 + Int($1.byteCount) }
        for segment in segments where left > 0 {
            let taken = min(left, Int(segment.byteCount))
            bytes += read(at: segment.address, count: taken)
            left -= taken
        }
        return bytes
    }

    /// Writes bytes over some segments, one after the other, as far as they go.
    public func write(_ bytes: [UInt8], to segments: [Segment]) {
        var rest = bytes[...]
        for segment in segments {
            write(rest.prefix(Int(segment.byteCount)), at: segment.address)
            rest = rest.dropFirst(Int(segment.byteCount))
        }
    }

    // MARK: Looking for changes

    /// A copy of everything, to compare with later.
    public func snapshot() -> [[UInt8]] {
        regions.indices.map { index in
            let area = area(ofRegion: index)
            return area.read(at: 0, count: area.byteCount)
        }
    }

    /// The pages (guest address / 4096) that differ from a snapshot.
    ///
    /// Regions start at a page.
    public func pagesChanged(since snapshot: [[UInt8]]) -> Set<UInt64> {
        var pages: Set<UInt64> = []
        for index in regions.indices {
            let area = area(ofRegion: index)
            for offset in stride(from: 0, to: area.byteCount, by: 4096) {
                let range = offset..<min(offset + 4096, area.byteCount)
                if !area.holds(snapshot[index], in: range) {
                    pages.insert((regions[index].guestAddress + UInt64(offset)) / 4096)
                }
            }
        }
        return pages
    }
}
