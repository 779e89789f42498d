"""Rows: adapters and their versions, base models, bases, merges, and what depends on what. SQLAlchemy Core, no torch.

Every function takes an open transaction ``tx`` first; values are in ``rows``. Import the modules, not names from here.

    session     Catalog.open(root, *, create=False, readonly=False) · .reading() · .writing(*, dry_run=False)
                .settings() -> dict · .close() · bank_path(path_or_url) -> Path
    upgrade     upgrade(root) -> SchemaChange · HEAD
    base_models add(tx, name, *, fingerprint=None, quantization=None) · get_or_create(tx, name) · resolve(tx, name)
                find(tx, name) -> BaseModel | None · alias(tx, name, alias) · join(tx, name, other)
                listing(tx)          (all -> BaseModel)
    versions    add(tx, NewVersion) -> Version · get(tx, ref) -> Version · find_by_files(tx, files, name=None) -> Version | None
                find_by_content(tx, content, name=None) -> Version | None · of_name(tx, name) -> list[Version]
    levels      set_level(tx, version, "bounded", member) -> Version · set_level(tx, version, "original") -> Version
                set_level(tx, version, "exact", ExactForm) -> Version · exact_form(tx, version) -> ExactForm | None
                bounded_member(tx, version) -> Member | None · merges_needing(tx, version) -> list[str]
                may_refer(tx, version, reference) -> bool · differing(tx, version) -> list[str]
    removal     remove_versions(tx, versions) -> list[StoredObject] (released) · remove_basis(tx, basis) -> list[StoredObject]
                remove_member(tx, member) -> list[StoredObject] · blockers(tx, node_id) -> list[Edge]
    aliases     set_alias(tx, name, alias, number, *, expect="any") -> AliasEvent · remove(tx, name, alias) -> AliasEvent
                listing(tx, name=None) -> list[Alias] · history(tx, name) -> list[AliasEvent]
    labels      label(tx, version, *, tags=None, metrics=None, note=None, untag=()) -> Version
    bases       add(tx, NewBasis) -> Basis · get(tx, ref) -> Basis · listing(tx, name=None) -> list[Basis]
    members     add(tx, basis, version, NewMember) -> Member (basis None: a form that stands alone)
                get(tx, basis, version) -> Member · alone(tx, version, codec) -> Member | None
                refuse_second(tx, basis, version, codec) · of_basis(tx, basis) -> list[Member]
                of_version(tx, version) -> list[Member] (smallest error first)
    recipes     add(tx, version, *, method, body, residual, environment, constituents) -> Recipe
                get(tx, version) -> Recipe | None
    edges       add(tx, dependent, needed, kind) · dependents(tx, node_id) -> list[Edge] · needs(tx, node_id) -> list[Edge]
    objects     register(tx, digest, size) -> int · listing(tx) -> Iterator[StoredObject]
                unreferenced(tx) -> list[StoredObject] · released(tx) -> list[StoredObject] · forget_released(tx, digests)
    search      versions(tx, *, where=None, names=None, sort=None, limit=None) -> list[Version]
    digests     verify_rows(tx) -> Iterator[Problem] · count_rows(tx) -> int
"""
