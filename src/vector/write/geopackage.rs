//! GeoPackage (OGC 12-128r18, version 1.3): a layer with an R-tree index, its style, tables of numbers, and where it comes from.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{Features, styles};
use crate::config::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::georef::{Crs, WGS84};
use crate::source::write::AtomicFile;
use crate::vector::provenance::Provenance;
use crate::vector::record::Record;

/// Features of one transaction; SQLite holds its changes in memory.
const TRANSACTION: u64 = 10_000;
/// The identifier of an unknown plane system.
const UNDEFINED_CARTESIAN: i64 = -1;
/// Identifiers of systems that have no EPSG code begin here.
const OWN_SRS: i64 = 100_000;

/// A GeoPackage with one layer of MultiPolygons: `class`, `name`, `color`, `confidence`, `area_m2`, `pixels`. Its style is in
/// `layer_styles`, as QGIS keeps it; where it comes from is in `gpkg_metadata`, JSON.
pub struct GeoPackage {
    path: PathBuf,
    layer: String,
    srs: i64,
    db: Connection,
    file: AtomicFile,
    records: u64,
    bounds: [f64; 4],
    date: String,
}

/// A table without geometry.
pub struct Table<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it holds.
    pub description: &'a str,
    /// Its columns and their types: `TEXT`, `INTEGER` or `REAL`.
    pub columns: &'a [(&'a str, &'a str)],
    /// Its rows, a value a column.
    pub rows: Vec<Vec<Value>>,
}

/// A value of a [`Table`].
pub type Value = rusqlite::types::Value;

impl GeoPackage {
    /// Begins a file of a layer called `layer`.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; [`ErrorKind::Io`] from SQLite; [`ErrorKind::Unsupported`] for a system without code and
    /// well-known text.
    pub fn create(
        path: impl AsRef<Path>,
        layer: &str,
        classes: &[Class],
        crs: Option<&Crs>,
        provenance: &Provenance,
    ) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = AtomicFile::create(&path)?;
        let db = Connection::open(file.unfinished()).map_err(|e| cannot_write(&path, e))?;
        let (bounds, date) =
            ([f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY, f64::NEG_INFINITY], provenance.date.clone());
        // A name that is the package's own would be taken for it.
        let lower = layer.to_ascii_lowercase();
        let taken =
            ["gpkg_", "rtree_", "sqlite_", "layer_styles", "statistics"].iter().any(|own| lower.starts_with(own));
        let layer = if taken || layer.is_empty() { format!("polygons_{layer}") } else { layer.to_owned() };
        let mut new = Self { path, layer, srs: UNDEFINED_CARTESIAN, db, file, records: 0, bounds, date };
        let begun = new.begin(crs, classes, provenance);
        begun.map_err(|e| cannot_write(&new.path, e))?;
        if crs.is_some() && new.srs == UNDEFINED_CARTESIAN {
            return Err(Error::new(ErrorKind::Unsupported, "the raster's system has no code and no well-known text")
                .at(new.path.display())
                .remedy("give one: --crs EPSG:CODE"));
        }
        Ok(new)
    }

    fn begin(&mut self, crs: Option<&Crs>, classes: &[Class], provenance: &Provenance) -> rusqlite::Result<()> {
        // The file has another name until it is complete: nothing of it needs to outlast a crash before.
        self.db.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA application_id = 1196444487; PRAGMA user_version = 10300;",
        )?;
        self.db.execute_batch(TABLES)?;
        self.srs = self.system(crs)?;
        let table = quoted(&self.layer);
        self.db.execute_batch(&format!(
            "CREATE TABLE {table} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON, class INTEGER NOT NULL, \
             name TEXT NOT NULL, color TEXT NOT NULL, confidence REAL, area_m2 REAL, pixels INTEGER NOT NULL);
             CREATE VIRTUAL TABLE {} USING rtree(id, minx, maxx, miny, maxy);",
            quoted(&self.index())
        ))?;
        let db = &self.db;
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) \
             VALUES (?1, 'features', ?1, 'polygons of classes', ?2, ?3)",
            params![self.layer, self.changed(), self.srs],
        )?;
        db.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?1, 'geom', 'MULTIPOLYGON', ?2, 0, 0)",
            params![self.layer, self.srs],
        )?;
        db.execute(
            "INSERT INTO gpkg_extensions VALUES (?1, 'geom', 'gpkg_rtree_index', \
             'http://www.geopackage.org/spec120/#extension_rtree', 'write-only')",
            params![self.layer],
        )?;
        for table in ["gpkg_metadata", "gpkg_metadata_reference"] {
            db.execute(
                "INSERT INTO gpkg_extensions VALUES (?1, NULL, 'gpkg_metadata', \
                 'http://www.geopackage.org/spec120/#extension_metadata', 'read-write')",
                params![table],
            )?;
        }
        db.execute(
            "INSERT INTO gpkg_metadata VALUES (1, 'dataset', 'https://json-schema.org/draft/2020-12/schema', \
             'application/json', ?1)",
            params![provenance.json().to_string()],
        )?;
        db.execute(
            "INSERT INTO gpkg_metadata_reference VALUES ('geopackage', NULL, NULL, NULL, ?1, 1, NULL)",
            params![self.changed()],
        )?;
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) \
             VALUES ('layer_styles', 'attributes', 'layer_styles', 'styles of QGIS', ?1, 0)",
            params![self.changed()],
        )?;
        db.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, \
             styleSLD, useAsDefault, description, owner, update_time) \
             VALUES ('', '', ?1, 'geom', 'classes', ?2, ?3, 1, 'colours of the classes', '', ?4)",
            params![self.layer, styles::qml(classes), styles::sld(&self.layer, classes), self.changed()],
        )?;
        db.execute_batch("BEGIN")
    }

    /// The identifier of the system, with its row.
    fn system(&self, crs: Option<&Crs>) -> rusqlite::Result<i64> {
        let Some(crs) = crs else { return Ok(UNDEFINED_CARTESIAN) };
        if crs.epsg == Some(WGS84) {
            return Ok(i64::from(WGS84));
        }
        let Some(wkt) = crs.well_known_text() else { return Ok(UNDEFINED_CARTESIAN) };
        let (organization, id) = match crs.epsg {
            Some(code) => ("EPSG", i64::from(code)),
            None => ("NONE", OWN_SRS),
        };
        self.db.execute(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?1, ?2, ?3, ?2, ?4, NULL)",
            params![crs.name(), id, organization, wkt],
        )?;
        Ok(id)
    }

    fn index(&self) -> String {
        format!("rtree_{}_geom", self.layer)
    }

    fn changed(&self) -> String {
        format!("{}T00:00:00.000Z", self.date)
    }

    fn insert(&mut self, record: &Record) -> rusqlite::Result<()> {
        self.records += 1;
        let [left, right, bottom, top] = record.bounds();
        let table = quoted(&self.layer);
        let sql = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        let (class, pixels, id) = (record.class, record.pixels as i64, self.records as i64);
        self.db.prepare(&sql)?.execute(params![
            id,
            blob(record, self.srs, [left, right, bottom, top]),
            class,
            record.name,
            record.hex_color(),
            record.confidence,
            record.area_m2,
            pixels
        ])?;
        let sql = format!("INSERT INTO {} VALUES (?1, ?2, ?3, ?4, ?5)", quoted(&self.index()));
        self.db.prepare(&sql)?.execute(params![id, left, right, bottom, top])?;
        let [l, r, b, t] = self.bounds;
        self.bounds = [l.min(left), r.max(right), b.min(bottom), t.max(top)];
        if self.records.is_multiple_of(TRANSACTION) {
            self.db.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(())
    }

    /// Adds a table without geometry.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] from SQLite.
    pub fn table(&mut self, table: &Table<'_>) -> Result<()> {
        self.add_table(table).map_err(|e| cannot_write(&self.path, e))
    }

    fn add_table(&mut self, table: &Table<'_>) -> rusqlite::Result<()> {
        let columns: Vec<String> =
            table.columns.iter().map(|(name, kind)| format!("{} {kind}", quoted(name))).collect();
        let name = quoted(table.name);
        self.db
            .execute_batch(&format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY NOT NULL, {})", columns.join(", ")))?;
        self.db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) \
             VALUES (?1, 'attributes', ?1, ?2, ?3, 0)",
            params![table.name, table.description, self.changed()],
        )?;
        let marks = vec!["?"; table.columns.len()].join(", ");
        let mut insert = self.db.prepare(&format!("INSERT INTO {name} VALUES (NULL, {marks})"))?;
        for row in &table.rows {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
        Ok(())
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`]; [`ErrorKind::Io`] from SQLite.
    pub fn finish(self) -> Result<()> {
        let path = self.path.clone();
        self.end().map_err(|e| cannot_write(&path, e))?;
        let Self { db, file, .. } = self;
        db.close().map_err(|(_, e)| cannot_write(&path, e))?;
        file.commit()
    }

    fn end(&self) -> rusqlite::Result<()> {
        let [left, right, bottom, top] = self.bounds;
        if self.records > 0 {
            self.db.execute(
                "UPDATE gpkg_contents SET min_x = ?2, max_x = ?3, min_y = ?4, max_y = ?5 WHERE table_name = ?1",
                params![self.layer, left, right, bottom, top],
            )?;
        }
        let triggers = TRIGGERS
            .replace("<table>", &quoted(&self.layer))
            .replace("<rtree>", &quoted(&self.index()))
            .replace("<name>", &self.index().replace('"', "\"\""));
        self.db.execute_batch(&triggers)?;
        self.db.execute_batch("COMMIT")
    }
}

impl Features for GeoPackage {
    fn record(&mut self, record: &Record) -> Result<()> {
        self.insert(record).map_err(|e| cannot_write(&self.path, e))
    }
}

fn cannot_write(path: &Path, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Io, "the GeoPackage cannot be written")
        .at(path.display())
        .remedy("check that its folder may be written and the disk has room")
        .source(error)
}

/// A name as SQL takes any.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A geometry as GeoPackages hold it: a header with its bounds, then well-known binary, little-endian.
fn blob(record: &Record, srs: i64, bounds: [f64; 4]) -> Vec<u8> {
    let points: usize = record.parts.iter().flatten().map(Vec::len).sum();
    let mut out = Vec::with_capacity(64 + 16 * points);
    // Version 0 (1); little-endian, bounds of x and y.
    out.extend(b"GP\x00\x03");
    out.extend((srs as i32).to_le_bytes());
    out.extend(bounds.iter().flat_map(|v| v.to_le_bytes()));
    let begin = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.push(1);
        out.extend(kind.to_le_bytes());
        out.extend((count as u32).to_le_bytes());
    };
    begin(&mut out, 6, record.parts.len());
    for part in &record.parts {
        begin(&mut out, 3, part.len());
        for ring in part {
            out.extend((ring.len() as u32).to_le_bytes());
            out.extend(ring.iter().flatten().flat_map(|v| v.to_le_bytes()));
        }
    }
    out
}

/// The package's own tables, as the standard's annex C gives them, and QGIS's of styles.
const TABLES: &str = r#"
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('Undefined Cartesian SRS', -1, 'NONE', -1, 'undefined', 'undefined Cartesian coordinate reference system'),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', 'undefined geographic coordinate reference system'),
  ('WGS 84 geodetic', 4326, 'EPSG', 4326, 'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]',
   'longitude/latitude coordinates in decimal degrees on the WGS 84 spheroid');
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
  srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
  scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE gpkg_metadata (id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset',
  md_standard_uri TEXT NOT NULL, mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
  timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')), md_file_id INTEGER NOT NULL,
  md_parent_id INTEGER, CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
  CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT, f_table_schema TEXT,
  f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN,
  description TEXT, owner TEXT, ui TEXT, update_time DATETIME);
"#;

/// What keeps the index right where others edit the layer (the standard's annex F.3).
const TRIGGERS: &str = r#"
CREATE TRIGGER "<name>_insert" AFTER INSERT ON <table> WHEN (new.geom NOT NULL AND NOT ST_IsEmpty(NEW.geom))
BEGIN INSERT OR REPLACE INTO <rtree> VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom), ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END;
CREATE TRIGGER "<name>_update6" AFTER UPDATE OF geom ON <table> WHEN OLD.fid = NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom)) AND (OLD.geom NOTNULL AND NOT ST_IsEmpty(OLD.geom))
BEGIN UPDATE <rtree> SET minx = ST_MinX(NEW.geom), maxx = ST_MaxX(NEW.geom), miny = ST_MinY(NEW.geom), maxy = ST_MaxY(NEW.geom) WHERE id = NEW.fid; END;
CREATE TRIGGER "<name>_update7" AFTER UPDATE OF geom ON <table> WHEN OLD.fid = NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom)) AND (OLD.geom ISNULL OR ST_IsEmpty(OLD.geom))
BEGIN INSERT INTO <rtree> VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom), ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END;
CREATE TRIGGER "<name>_update2" AFTER UPDATE OF geom ON <table> WHEN OLD.fid = NEW.fid AND (NEW.geom ISNULL OR ST_IsEmpty(NEW.geom))
BEGIN DELETE FROM <rtree> WHERE id = OLD.fid; END;
CREATE TRIGGER "<name>_update5" AFTER UPDATE ON <table> WHEN OLD.fid != NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom))
BEGIN DELETE FROM <rtree> WHERE id = OLD.fid; INSERT OR REPLACE INTO <rtree> VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom), ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END;
CREATE TRIGGER "<name>_update4" AFTER UPDATE ON <table> WHEN OLD.fid != NEW.fid AND (NEW.geom ISNULL OR ST_IsEmpty(NEW.geom))
BEGIN DELETE FROM <rtree> WHERE id IN (OLD.fid, NEW.fid); END;
CREATE TRIGGER "<name>_delete" AFTER DELETE ON <table> WHEN old.geom NOT NULL
BEGIN DELETE FROM <rtree> WHERE id = OLD.fid; END;
"#;
