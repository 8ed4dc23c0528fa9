// SPDX-License-Identifier: Apache-2.0

import BlockStorage
import FileBackstore
import ISCSIBackstore
import LinuxIO
import Logging
import SCSI
import VirtioSCSI

/// Units that come, change and go, at the start or while a guest runs.
extension SCSIHost {
    /// Opens what lies behind a logical unit and puts it at its place.
    func attach(_ configuration: LUNConfiguration) throws {
        let place = UnitPlace(target: configuration.target, lun: configuration.lun)
        guard let target = UInt8(exactly: configuration.target), let lun = LUN(configuration.lun),
            units[place] == nil
        else {
            throw ConfigurationError.repeatedLUN(
                target: configuration.target, lun: configuration.lun)
        }
        try checkMachineName(for: configuration)
        units[place] =
            configuration.iSCSI == nil
            ? try attachDisk(configuration, target: target, lun: lun)
            : startRemoteUnit(configuration, target: target, lun: lun)
    }

    /// Machines that share a disk must not be taken for one.
    private func checkMachineName(for unit: LUNConfiguration) throws {
        guard unit.disk.isShared, !configuration.isMachineNamed else { return }
        throw ServiceFailure(
            "shared: a socket that was passed does not tell this machine from others; "
                + "name it by --scsi-initiator NAME")
    }

    private func attachDisk(
        _ configuration: LUNConfiguration, target: UInt8, lun: LUN
    ) throws -> Unit {
        let unit =
            try unit(like: configuration)
            ?? makeDisk(
                OpenedDisk(configuration, locks: self.configuration.locksDisksAtStart),
                configuration)
        attach(unit, target: target, lun: lun)
        return unit
    }

    /// Puts a disk at a place of the bus, and has the request threads find it there.
    private func attach(_ unit: Unit, target: UInt8, lun: LUN) {
        guard case .disk(let disk, let store, _, _) = unit else { return }
        bus.attach(disk, target: target, lun: lun)
        guard let twin = store.twin else { return }
        for thread in threads { thread.addRoute(to: twin, of: disk, at: (target, lun)) }
    }

    /// A disk that stands at another place already, configured in the same way: it is not opened
    /// again, and the guest sees one disk over two paths.
    private func unit(like configuration: LUNConfiguration) -> Unit? {
        for case .disk(let disk, let store, let meter, let other) in units.values
        where Self.isSame(other, configuration) {
            return .disk(disk, store, meter, configuration)
        }
        return nil
    }

    private static func isSame(_ one: LUNConfiguration, _ other: LUNConfiguration) -> Bool {
        canonicalPath(one.path) == canonicalPath(other.path)
            && one.isReadOnly == other.isReadOnly && one.blockSize == other.blockSize
            && one.disk == other.disk && one.limits == other.limits
    }

    /// Makes a disk of what was opened, perhaps by another thread.
    private func makeDisk(
        _ opened: OpenedDisk, _ configuration: LUNConfiguration
    ) throws -> Unit {
        let kept = try opened.kept.map { kept in
            (state: kept.state, file: try DiskStateFile(kept, loop: loop, workers: workers))
        }
        let file = opened.takeFile()
        if let format = file.imageFormat {
            log.warning(
                "the file looks like an image of another format, and is served byte by byte",
                metadata: ["path": "\(configuration.path)", "format": "\(format)"])
        }
        let store = FileStore(file, context: context)
        let meter = MeteredStore(store, loop: loop)
        meter.limits = configuration.limits
        let disk = Disk(
            store: meter,
            identity: configuration.disk.identity(path: canonicalPath(configuration.path)),
            isReadOnly: configuration.isReadOnly,
            physicalBlockSize: configuration.disk.physicalBlockSize,
            isRemovable: configuration.disk.isRemovable)
        if let kept { disk.keepState(kept.state, with: kept.file) }
        device.admitServers(to: disk)
        disk.gateKeeper?.isLimited = configuration.limits != StoreLimits()
        return .disk(disk, store, meter, configuration)
    }

    /// Begins to look for a unit at an iSCSI target; it is attached when it has been found.
    private func startRemoteUnit(
        _ configuration: LUNConfiguration, target: UInt8, lun: LUN
    ) -> Unit? {
        guard let iSCSI = configuration.iSCSI else { return nil }
        var log = Logger(label: "iscsi")
        log[metadataKey: "target"] = "\(configuration.target)"
        log[metadataKey: "lun"] = "\(configuration.lun)"
        let session = ISCSISession(
            iSCSI.session(
                machine: bus.initiator.name, target: configuration.target, lun: configuration.lun),
            loop: loop, pool: workers, log: log)
        let unit = ISCSILogicalUnit(
            session: session, bus: bus, isReadOnly: configuration.isReadOnly,
            isRequired: iSCSI.isRequired
        ) { [weak bus] unit in
            bus?.attach(unit, target: target, lun: lun)
        }
        session.start()
        return .remote(unit, configuration)
    }

    // MARK: While the guest runs

    func answer(
        _ question: DeviceQuestion, _ reply: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        switch question {
        case .areYouThere: device.whenServersAnswer { reply(.here) }
        case .status: reply(.scsi(status))
        case .addUnit(let specification): add(specification, reply)
        case .removeUnit(let place): remove(place, reply)
        case .resizeUnit(let place): reply(resize(place))
        case .limitUnit(let place, let limits): reply(limit(place, limits))
        case .drain(let isDraining): drain(isDraining, reply)
        case .connections: reply(.connections([]))
        }
    }

    private func drain(
        _ isDraining: Bool, _ reply: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        device.isDraining = isDraining
        log.info(isDraining ? "draining" : "taking requests again")
        device.whenServersAnswer { reply(.done("")) }
    }

    /// Adds a unit; a file is opened by a worker, because its medium may take its time.
    private func add(
        _ specification: LUNSpecification, _ reply: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        do {
            let configuration = try specification.place(
                amid: Set(units.keys).union(opening.places))
            let present = unit(like: configuration)
            guard present == nil || specification.target != nil else {
                throw ServiceFailure(
                    "\(configuration.path): a disk already; for a second path to it give target=")
            }
            if configuration.iSCSI != nil || present != nil {
                try attach(configuration)
                return reply(added(configuration))
            }
            try checkMachineName(for: configuration)
            opening.open(configuration) { [weak self] opened in
                reply(self?.attach(opened, configuration) ?? .refused("the service stops"))
            }
        } catch {
            reply(.refused("\(error)"))
        }
    }

    /// Attaches a disk that was opened.
    private func attach(
        _ opened: OpeningDisks.Outcome, _ configuration: LUNConfiguration
    ) -> DeviceAnswer {
        do {
            let place = UnitPlace(target: configuration.target, lun: configuration.lun)
            guard let target = UInt8(exactly: place.target), let lun = LUN(place.lun) else {
                return absent(place)
            }
            let unit = try makeDisk(opened.get(), configuration)
            units[place] = unit
            attach(unit, target: target, lun: lun)
            return added(configuration)
        } catch {
            return .refused("\(error)")
        }
    }

    private func added(_ configuration: LUNConfiguration) -> DeviceAnswer {
        let place = UnitPlace(target: configuration.target, lun: configuration.lun)
        log.info("unit added", metadata: ["place": "\(place)"])
        return .done("added at \(place)")
    }

    private func remove(
        _ place: UnitPlace, _ reply: @escaping @Sendable (DeviceAnswer) -> Void
    ) {
        guard let unit = units.removeValue(forKey: place) else { return reply(absent(place)) }
        // What a limit holds back goes on first: it was asked for while the unit was there.
        if case .disk(_, _, let meter, _) = unit { meter.releaseWaiting() }
        let target = UInt8(exactly: place.target)
        let lun = LUN(place.lun)
        if let target, let lun { bus.detach(target: target, lun: lun) }
        close(unit)
        let tell = { [log] in
            log.info("unit removed", metadata: ["place": "\(place)"])
            reply(.done("removed \(place)"))
        }
        guard case .disk(let disk, _, _, _) = unit, let target, let lun else { return tell() }
        // The file is free for others when all threads have let it go.
        device.forgetRoute(to: (target, lun), of: disk, isGone: !isThere(disk), then: tell)
    }

    /// Whether a disk stands at some place.
    private func isThere(_ disk: Disk) -> Bool {
        units.values.contains {
            if case .disk(let other, _, _, _) = $0 { other === disk } else { false }
        }
    }

    private func resize(_ place: UnitPlace) -> DeviceAnswer {
        guard let unit = units[place] else { return absent(place) }
        guard case .disk(let disk, let store, _, _) = unit else {
            return .refused("\(place): the size of a unit at an iSCSI target is the target's")
        }
        do {
            try store.refreshSize()
        } catch {
            return .refused("\(error)")
        }
        let geometry = store.geometry
        let byteCount = geometry.blockCount &* UInt64(geometry.blockSize)
        guard disk.refreshGeometry(on: bus) else {
            return .done("\(place) has \(byteCount) bytes, as before")
        }
        log.info("unit resized", metadata: ["place": "\(place)", "bytes": "\(byteCount)"])
        return .done("\(place) has \(byteCount) bytes now")
    }

    private func limit(_ place: UnitPlace, _ limits: StoreLimits) -> DeviceAnswer {
        guard let unit = units[place] else { return absent(place) }
        guard case .disk(let disk, _, let meter, _) = unit else {
            return .refused("\(place): a unit at an iSCSI target has no limits here")
        }
        if let fault = limits.fault { return .refused("\(place): \(fault)") }
        disk.gateKeeper?.isLimited = limits != StoreLimits()
        meter.limits = limits
        return .done(limits == StoreLimits() ? "no limits at \(place)" : "limited \(place)")
    }

    private func absent(_ place: UnitPlace) -> DeviceAnswer {
        .refused("there is no unit at \(place)")
    }
}
