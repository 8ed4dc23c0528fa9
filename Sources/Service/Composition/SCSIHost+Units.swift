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
        units[place] =
            configuration.iSCSI == nil
            ? try attachDisk(configuration, target: target, lun: lun)
            : startRemoteUnit(configuration, target: target, lun: lun)
    }

    private func attachDisk(
        _ configuration: LUNConfiguration, target: UInt8, lun: LUN
    ) throws -> Unit {
        let unit = try unit(like: configuration) ?? openDisk(configuration)
        if case .disk(let disk, _, _, _) = unit { bus.attach(disk, target: target, lun: lun) }
        return unit
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

    private func openDisk(_ configuration: LUNConfiguration) throws -> Unit {
        let store = try FileStore(
            path: configuration.path, readOnly: configuration.isReadOnly,
            blockSize: configuration.blockSize, context: context)
        let meter = MeteredStore(store, loop: loop)
        meter.limits = configuration.limits
        let disk = Disk(
            store: meter,
            identity: configuration.disk.identity(path: canonicalPath(configuration.path)),
            isReadOnly: configuration.isReadOnly,
            physicalBlockSize: configuration.disk.physicalBlockSize,
            isRemovable: configuration.disk.isRemovable)
        if let path = configuration.disk.reservationsPath {
            try disk.keepState(with: DiskStateFile(path: path))
        }
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

    func answer(_ question: DeviceQuestion) -> DeviceAnswer {
        switch question {
        case .areYouThere: .here
        case .status: .scsi(status)
        case .addUnit(let specification): add(specification)
        case .removeUnit(let place): remove(place)
        case .resizeUnit(let place): resize(place)
        case .limitUnit(let place, let limits): limit(place, limits)
        case .drain(let isDraining): drain(isDraining)
        case .connections: .connections([])
        }
    }

    private func drain(_ isDraining: Bool) -> DeviceAnswer {
        device.isDraining = isDraining
        log.info(isDraining ? "draining" : "taking requests again")
        return .done("")
    }

    private func add(_ specification: LUNSpecification) -> DeviceAnswer {
        do {
            let configuration = try specification.place(amid: Set(units.keys))
            try attach(configuration)
            let place = UnitPlace(target: configuration.target, lun: configuration.lun)
            log.info("unit added", metadata: ["place": "\(place)"])
            return .done("added at \(place)")
        } catch {
            return .refused("\(error)")
        }
    }

    private func remove(_ place: UnitPlace) -> DeviceAnswer {
        guard let unit = units.removeValue(forKey: place) else { return absent(place) }
        // What a limit holds back goes on first: it was asked for while the unit was there.
        if case .disk(_, _, let meter, _) = unit { meter.releaseWaiting() }
        if let target = UInt8(exactly: place.target), let lun = LUN(place.lun) {
            bus.detach(target: target, lun: lun)
        }
        close(unit)
        log.info("unit removed", metadata: ["place": "\(place)"])
        return .done("removed \(place)")
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
        guard case .disk(_, _, let meter, _) = unit else {
            return .refused("\(place): a unit at an iSCSI target has no limits here")
        }
        meter.limits = limits
        return .done("limited \(place)")
    }

    private func absent(_ place: UnitPlace) -> DeviceAnswer {
        .refused("there is no unit at \(place)")
    }
}
