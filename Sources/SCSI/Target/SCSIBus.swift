// SPDX-License-Identifier: Apache-2.0

public import LinuxIO

/// Up to 256 targets with up to 16384 logical units each, and the one initiator that sees them.
///
/// A bus belongs to one event loop's thread. A transport executes commands on it:
///
/// 1. `commands.reserve()`, fill the command in, `execute`;
/// 2. at the end of the turn, `commands.popEnded()`, answer, `commands.release`, until there are
///    no more; then `commands.takeEndedManagements()`.
public final class SCSIBus {
    /// The commands under way.
    public let commands: CommandTable
    /// Who sends them.
    public let initiator: InitiatorPort
    /// Who hears of units that come, go and change.
    public weak var observer: (any SCSIBusObserver)?

    private var targets: [UInt8: Target] = [:]
    /// Ways to units that were removed while commands are under way on them.
    private var retired: [ITLNexus] = []
    private let cache = Slab<CachedPath>(count: cacheSize) { _ in CachedPath() }

    private static let cacheSize = 64

    /// The way that an address led to the last time.
    private struct CachedPath: ~Copyable {
        var key: UInt32 = 0
        var path: BorrowedReference<ITLNexus>?
    }

    /// An empty bus.
    ///
    /// - Parameters:
    ///   - initiator: who reaches the targets.
    ///   - commandLimit: commands that may be under way at once.
    ///   - loop: on whose thread everything happens; nil when ended commands are polled for.
    public init(initiator: InitiatorPort, commandLimit: Int = 16384, loop: EventLoop?) {
        self.initiator = initiator
        commands = CommandTable(limit: commandLimit, loop: loop)
    }

    deinit {
        for target in targets.values { commands.keep(target.dismantle()) }
        commands.keep(retired)
    }

    // MARK: Commands

    /// Executes a command whose place was reserved and filled in.
    @inline(__always)
    public func execute(_ index: Int) {
        commands.began(index)
        guard let path = path(to: commands[index].address) else { return endWithoutTarget(index) }
        commands[index].path = path
        path.with { path in
            path.commandBegan()
            path.taskSet.append(index, to: commands)
            if path.taskSet.mustWait(index, in: commands) {
                path.taskSet.wait(index, in: commands)
            } else {
                path.unit.execute(index, in: commands, over: path)
            }
        }
    }

    /// Executes a plain read or write that has failed on another thread.
    ///
    /// It was under way before everything that waits: an ORDERED command waits for it now as before.
    ///
    /// - Parameters:
    ///   - index: as of `execute`.
    ///   - pass: by which it was begun; where another disk stands by now it ends.
    @inline(never)
    public func executeAgain(_ index: Int, begunBy pass: GatePass) {
        commands.began(index)
        guard let path = path(to: commands[index].address) else { return endWithoutTarget(index) }
        let isThere = path.with { $0.taskSet.gateKeeper?.gate === pass.gate }
        commands[index].path = isThere ? path : nil
        guard isThere else { return commands.end(index, response: .targetFailure) }
        path.with { path in
            path.commandBegan()
            path.taskSet.prepend(index, to: commands)
            path.unit.execute(index, in: commands, over: path)
        }
    }

    @inline(never)
    private func endWithoutTarget(_ index: Int) {
        commands[index].path = nil
        commands.end(index, response: .badTarget)
    }

    @inline(__always)
    private func path(to address: LUNAddress) -> BorrowedReference<ITLNexus>? {
        let key = address.key
        let place = Int((key >> 8 ^ key >> 24) & UInt32(Self.cacheSize - 1))
        if cache[place].key == key { return cache[place].path }
        return findPath(to: address, cachedAt: place)
    }

    @inline(never)
    private func findPath(
        to address: LUNAddress, cachedAt place: Int
    ) -> BorrowedReference<ITLNexus>? {
        guard let path = resolve(address) else { return nil }
        let reference = BorrowedReference(path)
        cache[place].key = address.key
        cache[place].path = reference
        return reference
    }

    /// The way that an address leads; nil when there is no such target.
    func resolve(_ address: LUNAddress) -> ITLNexus? {
        if address.key == LUNAddress.wellKnownReportLUNs.key {
            return targets.values.min { $0.number < $1.number }?.path(to: .wellKnownReportLUNs)
        }
        return address.target.flatMap { targets[$0] }?.path(to: address.unit)
    }

    private func forgetCachedPaths() {
        for place in 0..<Self.cacheSize {
            cache[place].key = 0
            cache[place].path = nil
        }
    }

    // MARK: Units

    /// Puts a logical unit at a place of the bus; its initiator is told.
    ///
    /// - Returns: false when the place is taken.
    @discardableResult
    public func attach(_ unit: any LogicalUnit, target number: UInt8, lun: LUN) -> Bool {
        let target = targets[number] ?? Target(number: number, initiator: initiator)
        guard target.units[lun] == nil else { return false }
        targets[number] = target
        forgetCachedPaths()
        let path = target.insert(unit, at: lun)
        path.raise(.powerOn)
        unit.attached(path, commands: commands)
        raiseReportedLUNsChanged(of: target, except: path)
        observer?.unitAttached(target: number, lun: lun)
        return true
    }

    /// Takes a logical unit away; its initiator is told.
    ///
    /// Commands under way on it over this path are aborted and end with TARGET FAILURE.
    ///
    /// - Returns: false when there is none.
    @discardableResult
    public func detach(target number: UInt8, lun: LUN) -> Bool {
        guard let target = targets[number], let path = target.remove(at: lun) else { return false }
        forgetCachedPaths()
        retired.removeAll { $0.commandCount == 0 }
        retired.append(path)
        for index in commands.commands(in: path.taskSet) where commands.isOn(path, index) {
            commands.abort(index, response: .targetFailure, for: nil)
        }
        path.unit.detached(path)
        if target.units.isEmpty {
            targets[number] = nil
            retired += target.dismantle()
        } else {
            raiseReportedLUNsChanged(of: target, except: nil)
        }
        observer?.unitDetached(target: number, lun: lun)
        return true
    }

    private func raiseReportedLUNsChanged(of target: Target, except newcomer: ITLNexus?) {
        for path in target.paths where path !== newcomer { path.raise(.reportedLUNsChanged) }
    }

    /// The unit at a place of the bus.
    public func unit(target: UInt8, lun: LUN) -> (any LogicalUnit)? {
        targets[target]?.units[lun]?.unit
    }

    /// Every place that holds a unit, in order.
    public var places: [(target: UInt8, lun: LUN)] {
        targets.values.sorted { $0.number < $1.number }.flatMap { target in
            target.luns.map { (target.number, $0) }
        }
    }

    /// Every way to the unit; a unit may stand at several places.
    func paths(to unit: any LogicalUnit) -> [ITLNexus] {
        allPaths.filter { $0.unit === unit }
    }

    private var allPaths: [ITLNexus] { targets.values.flatMap(\.paths) }

    /// Raises a unit attention on every way to a unit, and tells the transport of it.
    public func raise(_ attention: UnitAttention, for unit: any LogicalUnit) {
        for path in paths(to: unit) {
            path.raise(attention)
            if let lun = path.lun {
                observer?.unitChanged(
                    target: path.target.number, lun: lun, attention.additionalSense)
            }
        }
    }

    /// The initiator starts anew: every unit forgets what belongs to it, and says so with its first
    /// answer.
    ///
    /// No command is under way.
    public func initiatorReset() {
        for path in allPaths {
            path.unit.nexusLost(path)
            path.clearUnitAttentions()
            path.raise(.powerOn)
        }
        for unit in units { unit.reset() }
    }

    private var units: [any LogicalUnit] {
        var seen = Set<ObjectIdentifier>()
        return allPaths.map(\.unit).filter { seen.insert(ObjectIdentifier($0)).inserted }
    }

    func target(of address: LUNAddress) -> Target? {
        address.target.flatMap { targets[$0] }
    }
}

/// Who hears of logical units that come, go and change: the transport, which tells its driver.
public protocol SCSIBusObserver: AnyObject {
    /// A unit was attached.
    func unitAttached(target: UInt8, lun: LUN)
    /// A unit was detached.
    func unitDetached(target: UInt8, lun: LUN)
    /// A unit has changed in the way that the sense code names.
    func unitChanged(target: UInt8, lun: LUN, _ sense: AdditionalSense)
}
