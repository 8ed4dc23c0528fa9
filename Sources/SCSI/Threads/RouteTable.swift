// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// Which of a thread's twins an address leads to.
///
/// Lives on that thread.
public final class RouteTable {
    private static let cacheSize = 64

    private var routes: [UInt32: DiskTwin] = [:]
    /// Twins whose routes are gone, until nothing of theirs is under way.
    private var retired: [DiskTwin] = []
    private let cache = Slab<CachedRoute>(count: cacheSize) { _ in CachedRoute() }

    /// The twin that an address led to the last time.
    private struct CachedRoute: ~Copyable {
        var key: UInt32 = 0
        var twin: BorrowedReference<DiskTwin>?
    }

    public init() {}

    /// The twin that an address leads to; nil when the disk's own thread has to look.
    @inline(__always)
    public subscript(address: LUNAddress) -> BorrowedReference<DiskTwin>? {
        let key = address.key
        let place = Int((key >> 8 ^ key >> 24) & UInt32(Self.cacheSize - 1))
        if cache[place].key == key { return cache[place].twin }
        return find(key, cachedAt: place)
    }

    @inline(never)
    private func find(_ key: UInt32, cachedAt place: Int) -> BorrowedReference<DiskTwin>? {
        guard let twin = routes[key] else { return nil }
        let reference = BorrowedReference(twin)
        cache[place].key = key
        cache[place].twin = reference
        return reference
    }

    /// Has a place of the bus lead to a disk's twin.
    ///
    /// - Parameters:
    ///   - place: what stands there until now is left.
    ///   - gate: the disk's; a disk with several places has one twin.
    ///   - make: makes the twin if there is none yet.
    public func insert(
        at place: (target: UInt8, lun: LUN), through gate: UnitGate, make: () -> DiskTwin
    ) {
        remove(at: place)
        let twin = routes.values.first { $0.gate === gate } ?? make()
        for key in Self.keys(of: place) { routes[key] = twin }
    }

    /// Has a place lead nowhere; the disk's own thread looks from now on.
    public func remove(at place: (target: UInt8, lun: LUN)) {
        let removed = Self.keys(of: place).compactMap { routes.removeValue(forKey: $0) }
        forgetCachedRoutes()
        guard let twin = removed.first, !routes.values.contains(where: { $0 === twin }) else {
            return
        }
        twin.close()
        retired.append(twin)
    }

    /// Has every place lead nowhere.
    public func removeAll() {
        var twins: [DiskTwin] = []
        for twin in routes.values where !twins.contains(where: { $0 === twin }) {
            twins.append(twin)
        }
        routes = [:]
        forgetCachedRoutes()
        for twin in twins { twin.close() }
        retired += twins
    }

    /// Lets go of twins that are not needed any more.
    public func forgetIdle() {
        if !retired.isEmpty { retired.removeAll { $0.isIdle } }
    }

    private func forgetCachedRoutes() {
        for place in 0..<Self.cacheSize {
            cache[place].key = 0
            cache[place].twin = nil
        }
    }

    /// Both forms of an address, as far as the LUN has both.
    private static func keys(of place: (target: UInt8, lun: LUN)) -> Set<UInt32> {
        let flat = 0x40 | UInt32(place.lun.rawValue >> 8)
        let low = UInt32(place.lun.rawValue & 0xFF)
        return [
            LUNAddress(target: place.target, lun: place.lun).key,
            1 | UInt32(place.target) << 8 | flat << 16 | low << 24,
        ]
    }
}
